// SPDX-License-Identifier: Apache-2.0
#include "mount/session.h"

#include <fmt/format.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "mount/log.h"
#include "mount/opcodes.h"
#include "mount/ops.h"

extern char** environ;

namespace lcfs::mount {
namespace {

// The start of the body of INIT, including fields that libfuse does not know.
struct InitIn {
  std::uint32_t major, minor, max_readahead, flags, flags2;
};

// The value of a -o option with commas and backslashes escaped.
std::string escaped(std::string_view text) {
  std::string out;
  for (char const c : text) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<Session>> Session::make(Mount& mount) {
  auto session = std::unique_ptr<Session>(new Session(mount));
  auto const& options = mount.options;
  std::string list =
      fmt::format("fsname={},subtype=lcfs,default_permissions", escaped(options.store));
  if (geteuid() == 0 || options.allow_other) list += ",allow_other";
  list += ',' + vfs_text(options);
  std::string name = "lcfs", flag = "-o";
  char* argv[] = {name.data(), flag.data(), list.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, argv);
  auto const ops = make_ops();
  session->fuse_ = fuse_session_new(&args, &ops, sizeof ops, &mount);
  fuse_opt_free_args(&args);
  if (session->fuse_ == nullptr)
    return Error::invalid("libfuse rejects these options: " + list).in(options.directory);
  return session;
}

Session::~Session() {
  mount_.session = nullptr;
  if (mounted_) detach();
  join();
  transport_.reset();
  if (fuse_ == nullptr) return;
  // Frees libfuse's data of the mount.  If the mount has ended, the descriptor shows it (POLLERR)
  // and nothing is unmounted.
  fuse_session_unmount(fuse_);
  fuse_session_destroy(fuse_);
}

Status Session::start() {
  auto const& options = mount_.options;
  if (fuse_session_mount(fuse_, options.directory.c_str()) != 0) {
    return Error::io("cannot mount; see the message above").in(options.directory);
  }
  mounted_ = true;
  // From here on all data to and from the kernel passes through this class.
  fd_ = fuse_session_fd(fuse_);
  static constexpr fuse_custom_io kIo = {
      .writev = on_write, .read = on_read, .splice_receive = nullptr, .splice_send = nullptr};
  if (int const result = fuse_session_custom_io(fuse_, &kIo, fd_); result != 0) {
    return Error::io("libfuse rejects our transport", -result).in(options.directory);
  }
  AlignedBuffer buffer(kRequestRoom);
  pollfd wait{fd_, POLLIN, 0};
  while (!initialized_) {  // the first request is INIT
    if (poll(&wait, 1, 10'000) == 0)
      return Error::io("the kernel does not start the session", ETIMEDOUT).in(options.directory);
    if (serve_from_dev(fd_, buffer.span(), {}, [this] { handle(); }) == Answer::kEnded) {
      return Error::io("the session ended before it began").in(options.directory);
    }
  }
  LCFS_TRY(transport_->start([this] { handle(); }));
  return {};
}

void Session::join() {
  if (transport_) transport_->join();
}

std::string Session::transport() const { return transport_ ? transport_->name() : "none"; }

void Session::detach() {
  auto const& directory = mount_.options.directory;
  if (umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL ||
      errno == ENOENT)
    return;
  std::string program = "fusermount3", unmount = "-u", lazy = "-z", quiet = "-q", where = directory;
  char* argv[] = {program.data(), unmount.data(), lazy.data(), quiet.data(), where.data(), nullptr};
  pid_t child = 0;
  if (posix_spawnp(&child, program.c_str(), nullptr, nullptr, argv, environ) != 0) return;
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Session::invalidate_name(NodeId directory, std::string_view name) {
  if (!initialized_) return;
  std::string const text(name);
  fuse_lowlevel_notify_inval_entry(fuse_, directory, text.c_str(),
                                   text.size());  // ENOENT: the kernel did not know it
}

void Session::invalidate_node(NodeId node) {
  if (initialized_) fuse_lowlevel_notify_inval_inode(fuse_, node, 0, 0);
}

// Must run before INIT is answered, because the rings of a transport must exist by then.
void Session::choose_transport() {
  auto const& options = mount_.options;
  auto const* const in = current_request().body<InitIn>();
  bool const offered =
      in != nullptr && (in->flags & kInitExt) != 0 && (in->flags2 & kInitOverIoUring) != 0;
  TransportOptions wanted{.threads = options.threads, .clone_fd = options.clone_fd.value_or(false)};
  // io_uring is not the default: one reader of /dev/fuse that stays awake was measured to be faster
  // (doc/performance.md).
  if (options.transport == TransportKind::kUring && offered) {
    transport_ = make_uring_transport(fd_, wanted);
    auto const ready = transport_->prepare();
    if (ready) return;
    log(Level::kWarning,
        "FUSE over io_uring: " + ready.error().text() + "; using /dev/fuse instead");
  } else if (options.transport == TransportKind::kUring) {
    log(Level::kWarning,
        "the kernel does not offer FUSE over io_uring (to enable it, write Y to "
        "/sys/module/fuse/parameters/enable_uring); using /dev/fuse instead");
  }
  transport_ = make_dev_transport(fd_, wanted);
  static_cast<void>(transport_->prepare());  // cannot fail
}

ssize_t Session::on_read(int fd, void* into, std::size_t size, void* self) {
  static_cast<void>(self);
  ssize_t const n = read(fd, into, size);
  return n < 0 ? -errno : n;
}

ssize_t Session::on_write(int fd, iovec* iov, int count, void* self) {
  auto& mount = *static_cast<Mount*>(self);
  auto const* const out = static_cast<fuse_out_header const*>(iov[0].iov_base);
  Request& request = current_request();
  ssize_t result = 0;
  if (out->unique == 0 || request.route == nullptr) {  // a notification
    result = writev(fd, iov, count);
    if (result < 0) result = -errno;
  } else if (request.header->opcode == FUSE_INIT) {
    result = mount.session->answer_init(iov, count);
  } else {
    request.failed = out->error != 0;
    result = request.route->reply(iov, count);
  }
  if (result < 0) {  // libfuse looks at errno
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

ssize_t Session::answer_init(iovec* iov, int count) {
  auto const* const in = current_request().body<InitIn>();
  if (in != nullptr && count >= 2 && iov[1].iov_len >= 36) {
    auto* const body = static_cast<std::byte*>(iov[1].iov_base);
    std::uint32_t flags = 0, flags2 = 0;
    std::memcpy(&flags, body + 12, sizeof flags);
    std::memcpy(&flags2, body + 32, sizeof flags2);
    flags |= in->flags &
             (mount_.options.killpriv_v2 ? kInitKillprivV2 | kInitSetxattrExt : kInitSetxattrExt);
    if ((in->flags & kInitExt) != 0) {
      flags |= kInitExt;
      if (transport_->over_io_uring()) flags2 |= kInitOverIoUring;
    }
    std::memcpy(body + 12, &flags, sizeof flags);
    std::memcpy(body + 32, &flags2, sizeof flags2);
  }
  ssize_t const n = current_request().route->reply(iov, count);
  if (n >= 0) initialized_ = true;
  return n;
}

void Session::handle() {
  Request& request = current_request();
  if (request.header->opcode == FUSE_INIT) {
    choose_transport();
    return dispatch();
  }
  auto const begin = std::chrono::steady_clock::now();
  Op const op = op_of(request.header->opcode);
  mount_.requests.fetch_add(1, std::memory_order_relaxed);
  dispatch();
  auto const time = std::chrono::steady_clock::now() - begin;
  mount_.totals.add(op, time, request.failed);
  if (request.served) request.served->counters().add(op, time, request.failed);
}

void Session::dispatch() {
  Request& request = current_request();
  switch (request.header->opcode) {
    case kOpcodeTmpfile: return op_tmpfile(mount_);
    case kOpcodeStatx: return op_statx(mount_);
    case FUSE_SETXATTR:
      // With SETXATTR_EXT the head is longer than libfuse expects: keep the flags and cut the head.
      if (auto const* const in = request.body<fuse_setxattr_in>()) {
        request.setxattr_flags = in->setxattr_flags;
        constexpr std::size_t kCut = sizeof(fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
        std::memmove(request.message.data() + kCut, request.message.data(),
                     sizeof(fuse_in_header) + FUSE_COMPAT_SETXATTR_IN_SIZE);
        request.message = request.message.subspan(kCut);
        auto* const header = reinterpret_cast<fuse_in_header*>(request.message.data());
        header->len -= static_cast<std::uint32_t>(kCut);
        request.header = header;
      }
      break;
    default: break;
  }
  fuse_buf buffer{};
  buffer.size = request.message.size();
  buffer.mem = request.message.data();
  buffer.fd = -1;
  fuse_session_process_buf(fuse_, &buffer);
}

}  // namespace lcfs::mount
