// SPDX-License-Identifier: Apache-2.0
#include "extract/extract.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "extract/host_tree.h"

namespace lcfs::extract {
namespace {

constexpr std::size_t kBufferSize = 1u << 20;
constexpr std::size_t kBatch = 256;  // directory entries held at once

// An error of the host that every further file would have too.
bool ends_all(Error const& error) {
  return error.code == Errc::kInterrupted || error.sys == ENOSPC || error.sys == EDQUOT ||
         error.sys == EROFS || error.sys == EMFILE || error.sys == ENFILE || error.sys == ENOMEM;
}

class Extractor {
 public:
  Extractor(Layer& layer, ExtractOptions const& options)
      : layer_(layer), options_(options), buffer_(kBufferSize) {}

  Result<ExtractResult> run(Inode from, std::string const& directory) {
    LCFS_TRY_ASSIGN(auto attr, layer_.getattr(from));
    if (!S_ISDIR(attr.info.mode)) return fs_error(ENOTDIR);
    LCFS_TRY_ASSIGN(root_, open_target(directory, options_.force));
    Fd again{dup(root_.get())};
    if (!again) return Error::io("cannot open the directory", errno).in(directory);
    LCFS_TRY(enter(attr, std::move(again), ""));
    while (!frames_.empty()) LCFS_TRY(step());
    return result_;
  }

 private:
  // A directory that is being filled; the last one's descriptor is fd_.
  struct Frame {
    Attr attr{};
    HostId host{};
    std::uint64_t cookie = 0;     // after the last subdirectory that was entered
    std::size_t path_length = 0;  // of path_ without this directory's name
  };
  // The first extracted name of an inode with several names.
  struct Made {
    std::string path{};
    HostId host{};
    std::uint32_t left = 0;  // names still to come
  };

  // Reports `error`, and continues unless no further file can succeed.
  Status report(Error error, std::string const& name) {
    if (error.path.empty())
      error.path = path_ + "/" + name;
    else if (error.code == Errc::kCorrupt)
      error.message = fmt::format("{}/{}: {}", path_, name,
                                  error.message);  // its path is only the place in the store
    if (ends_all(error)) return error;
    ++result_.problems;
    if (options_.problem) options_.problem(error);
    return Ok{};
  }

  Status report_if(Status done, std::string const& name) {
    return done ? Status{Ok{}} : report(std::move(done).error(), name);
  }

  Status check_stop() const {
    if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed))
      return Error::interrupted();
    return Ok{};
  }

  // Enters the next subdirectory of the last frame, or returns to the parent.
  Status step() {
    LCFS_TRY(check_stop());
    Frame& frame = frames_.back();
    std::optional<DirEntry> next;
    Status const read =
        layer_.readdir(frame.attr.inode, frame.cookie, [&next](DirEntry const& entry) {
          if (entry.type != DT_DIR) return true;
          next = entry;
          return false;
        });
    if (!read) {
      LCFS_TRY(report(read.error(), ""));
      return leave();
    }
    if (!next) return leave();
    frame.cookie = next->cookie;
    auto attr = layer_.getattr(next->inode);
    if (!attr) return report(std::move(attr).error(), next->name);
    auto fd = make_directory(fd_.get(), next->name, options_.force);
    if (!fd) return report(std::move(fd).error(), next->name);
    return enter(*attr, *std::move(fd), next->name);
  }

  Status enter(Attr const& attr, Fd fd, std::string const& name) {
    LCFS_TRY_ASSIGN(auto host, host_id(fd.get()));
    frames_.push_back({attr, host, 0, path_.size()});
    if (!name.empty()) path_ += "/" + name;
    fd_ = std::move(fd);
    ++result_.entries;
    return make_files(attr.inode);
  }

  Status leave() {
    Frame const frame = frames_.back();
    frames_.pop_back();
    Fd parent;
    if (!frames_.empty()) {
      auto opened = open_parent(fd_.get(), frames_.back().host);
      if (!opened) {
        if (opened.error().path.empty()) opened.error().path = path_;
        return std::move(opened).error();
      }
      parent = *std::move(opened);
    }
    auto const done = restore({fd_.get(), nullptr}, frame.attr, "");
    path_.resize(frame.path_length);
    fd_ = std::move(parent);
    return done;
  }

  // Extracts all entries of the current directory that are not directories.
  Status make_files(Inode directory) {
    std::vector<DirEntry> batch;
    std::uint64_t cookie = 0;
    for (;;) {
      batch.clear();
      Status const read = layer_.readdir(directory, cookie, [&](DirEntry const& entry) {
        cookie = entry.cookie;
        if (entry.type != DT_DIR) batch.push_back(entry);
        return batch.size() < kBatch;
      });
      if (!read) return report(read.error(), "");
      for (auto const& entry : batch) {
        LCFS_TRY(check_stop());
        LCFS_TRY(report_if(make(entry), entry.name));
      }
      if (batch.size() < kBatch) return Ok{};
    }
  }

  Status make(DirEntry const& entry) {
    LCFS_TRY_ASSIGN(auto attr, layer_.getattr(entry.inode));
    if (!options_.privileged && (S_ISCHR(attr.info.mode) || S_ISBLK(attr.info.mode))) return Ok{};
    bool const linked = attr.info.nlink > 1;
    if (linked) {
      auto const known = made_.find(entry.inode);
      if (known != made_.end()) return make_link(known, entry.name);
    }
    LCFS_TRY(make_new(attr, entry.name));
    ++result_.entries;
    if (linked) {
      LCFS_TRY_ASSIGN(auto host, host_id(fd_.get(), entry.name));
      made_.emplace(entry.inode, Made{path_ + "/" + entry.name, host, attr.info.nlink - 1});
    }
    return Ok{};
  }

  Status make_link(std::unordered_map<Inode, Made>::iterator known, std::string const& name) {
    Made& first = known->second;
    auto const linked =
        make_hardlink(root_.get(), first.path, first.host, fd_.get(), name, options_.force);
    if (linked) ++result_.entries;
    if (--first.left == 0) made_.erase(known);
    return linked;
  }

  Status make_new(Attr const& attr, std::string const& name) {
    switch (attr.info.mode & S_IFMT) {
      case S_IFREG: return make_regular(attr, name);
      case S_IFLNK: {
        LCFS_TRY_ASSIGN(auto target, layer_.readlink(attr.inode));
        LCFS_TRY(make_symlink(fd_.get(), name, target, options_.force));
        break;
      }
      default:
        LCFS_TRY(make_special(fd_.get(), name, attr.info.mode, attr.info.rdev, options_.force));
    }
    return restore({fd_.get(), &name}, attr, name);
  }

  Status make_regular(Attr const& attr, std::string const& name) {
    LCFS_TRY_ASSIGN(auto file, make_file(fd_.get(), name, options_.force));
    if (auto copied = copy(attr, file.get()); !copied) {
      unlinkat(fd_.get(), name.c_str(), 0);  // better no file than an incomplete one
      return copied;
    }
    return restore({file.get(), nullptr}, attr, name);
  }

  Status copy(Attr const& attr, int fd) {
    std::uint64_t const size = attr.info.size;
    for (std::uint64_t at = 0; at < size;) {
      LCFS_TRY(check_stop());
      auto data = layer_.seek(attr.inode, at, Whence::kData);
      if (!data && data.error().sys == ENXIO) break;  // only a hole is left
      if (!data) return std::move(data).error();
      LCFS_TRY_ASSIGN(auto end, layer_.seek(attr.inode, *data, Whence::kHole));
      for (at = *data; at < end;) {
        LCFS_TRY_ASSIGN(auto got,
                        layer_.read(attr.inode, at,
                                    std::span{buffer_}.first(static_cast<std::size_t>(
                                        std::min<std::uint64_t>(kBufferSize, end - at)))));
        if (got == 0) return Error::io("file ends early");
        LCFS_TRY(write_all(fd, at, std::span{buffer_}.first(got)));
        at += got;
      }
    }
    if (ftruncate(fd, static_cast<off_t>(size)) != 0)
      return Error::io("cannot set the size", errno);
    return Ok{};
  }

  Status write_all(int fd, std::uint64_t offset, std::span<std::byte const> data) {
    result_.bytes += data.size();
    while (!data.empty()) {
      auto const n = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error::io("cannot write", errno);
      data = data.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    return Ok{};
  }

  // Owner first (it clears capabilities and setuid), times last (all else changes them).
  Status restore(HostFile file, Attr const& attr, std::string const& name) {
    auto const& info = attr.info;
    auto permissions = info.mode & 07777u;
    if (options_.same_owner) {
      if (auto done = set_owner(file, info.uid, info.gid); !done) {
        permissions &= ~06000u;
        LCFS_TRY(report(std::move(done).error(), name));
      }
    } else if (info.uid != geteuid() || info.gid != getegid()) {
      permissions &= ~06000u;
    }
    LCFS_TRY(restore_xattrs(file, attr.inode, name));
    if (!S_ISLNK(info.mode)) LCFS_TRY(report_if(set_permissions(file, permissions), name));
    return report_if(set_times(file, info.atime, info.mtime), name);
  }

  Status restore_xattrs(HostFile file, Inode inode, std::string const& name) {
    auto names = layer_.listxattr(inode);
    if (!names) return report(std::move(names).error(), name);
    for (auto const& xattr : *names) {
      if (!options_.privileged && !xattr.starts_with("user.")) continue;
      auto value = layer_.getxattr(inode, xattr);
      LCFS_TRY(report_if(value ? set_xattr(file, xattr, *value) : Status{std::move(value).error()},
                         name));
    }
    return Ok{};
  }

  Layer& layer_;
  ExtractOptions const& options_;
  std::vector<std::byte> buffer_;
  ExtractResult result_{};
  Fd root_, fd_;
  std::string path_;  // of the current directory in the layer, "" or "/a/b"
  std::vector<Frame> frames_;
  std::unordered_map<Inode, Made> made_;
};

}  // namespace

Result<ExtractResult> extract_tree(Layer& layer, Inode from, std::string const& directory,
                                   ExtractOptions const& options) {
  return Extractor(layer, options).run(from, directory);
}

}  // namespace lcfs::extract
