// SPDX-License-Identifier: Apache-2.0
// extract: what stands in the layer stands in the directory, and nothing else is touched.
#include "extract/extract.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/store.h"
#include "extract/resolve.h"
#include "tests/support/support.h"

using namespace lcfs;
using namespace lcfs::extract;
namespace fs = std::filesystem;

namespace {

// A layer in memory to fill and extract.
class Fixture {
 public:
  explicit Fixture(std::uint64_t size = 64u << 20) {
    auto device = make_memory_device(size);
    REQUIRE(Store::format(*device, {}));
    auto store = Store::open(std::move(device), {});
    REQUIRE(store);
    store_ = *std::move(store);
    auto const id = store_->create_layer("layer", 0);
    REQUIRE(id);
    auto layer = store_->layer(*id);
    REQUIRE(layer);
    layer_ = *layer;
  }
  ~Fixture() {
    layer_.reset();
    CHECK(store_->close());
  }
  Fixture(Fixture const&) = delete;
  Fixture& operator=(Fixture const&) = delete;

  Layer& layer() { return *layer_; }
  Inode root() { return layer_->root(); }
  Inode make(Inode directory, std::string const& name, std::uint32_t mode,
             std::string const& data = {}) {
    auto const made = layer_->create(directory, name, {mode, geteuid(), getegid(), 0});
    REQUIRE(made);
    if (!data.empty()) REQUIRE(layer_->write(made->inode, 0, std::as_bytes(std::span{data})));
    return made->inode;
  }
  Inode symlink(Inode directory, std::string const& name, std::string const& target) {
    auto const made =
        layer_->symlink(directory, name, target, {S_IFLNK | 0777, geteuid(), getegid(), 0});
    REQUIRE(made);
    return made->inode;
  }
  Result<ExtractResult> extract(std::string const& directory, ExtractOptions options = {}) {
    problems_.clear();
    options.problem = [this](Error const& error) { problems_.push_back(error.text()); };
    return extract_tree(*layer_, root(), directory, options);
  }
  std::vector<std::string> const& problems() const { return problems_; }

 private:
  std::unique_ptr<Store> store_;
  std::shared_ptr<Layer> layer_;
  std::vector<std::string> problems_;
};

struct stat stat_of(std::string const& path) {
  struct stat st {};
  REQUIRE(lstat(path.c_str(), &st) == 0);
  return st;
}

std::string read_file(std::string const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool root_user() { return geteuid() == 0; }

}  // namespace

TEST_CASE(
    "resolve: links are followed inside the layer, the last one if wanted, and not for ever") {
  Fixture f;
  auto const a = f.make(f.root(), "a", S_IFDIR | 0755);
  auto const file = f.make(a, "file", S_IFREG | 0644, "x");
  auto const link = f.symlink(f.root(), "link", "/a/../../a");
  f.symlink(a, "up", "..//./a/file");
  f.symlink(f.root(), "none", "nowhere");
  std::string at = "/a/file";
  for (int i = 0; i < 41; ++i) {
    f.symlink(f.root(), "l" + std::to_string(i), at);
    at = "l" + std::to_string(i);
  }
  struct Row {
    char const* path;
    LastLink last;
    Inode inode;
    int error;
  };
  for (auto const& row : {Row{"", LastLink::kKeep, f.root(), 0},
                          {"/", LastLink::kKeep, f.root(), 0},
                          {"..", LastLink::kKeep, f.root(), 0},
                          {"/a/../..//a/./file", LastLink::kKeep, file, 0},
                          {"link", LastLink::kKeep, link, 0},
                          {"link", LastLink::kFollow, a, 0},
                          {"link/", LastLink::kKeep, a, 0},
                          {"link/up", LastLink::kFollow, file, 0},
                          {"a/file/", LastLink::kKeep, 0, ENOTDIR},
                          {"a/file/..", LastLink::kKeep, 0, ENOTDIR},
                          {"none", LastLink::kFollow, 0, ENOENT},
                          {"none/x", LastLink::kKeep, 0, ENOENT},
                          {"l39", LastLink::kFollow, file, 0},
                          {"l40", LastLink::kFollow, 0, ELOOP}}) {
    CAPTURE(std::string{row.path});
    auto const found = resolve_path(f.layer(), row.path, row.last);
    REQUIRE(bool(found) == (row.error == 0));
    if (found)
      CHECK(found->inode == row.inode);
    else
      CHECK(found.error().to_errno() == row.error);
  }
}

TEST_CASE("extract: every type, mode, time, link and attribute") {
  Fixture f;
  test::TempDir dir;
  auto const sub = f.make(f.root(), "sub", S_IFDIR | 0500);
  auto const file = f.make(sub, "file", S_IFREG | 0640, "data");
  REQUIRE(f.layer().setxattr(file, "user.note", std::string("a\0b", 3), XattrMode::kAny));
  REQUIRE(f.layer().setxattr(file, "user.empty", "", XattrMode::kAny));
  REQUIRE(f.layer().link(file, f.root(), "hard"));
  REQUIRE(f.layer().link(file, sub, "another"));
  f.make(f.root(), "empty", S_IFREG | 0);
  f.make(f.root(), "fifo", S_IFIFO | 0604);
  f.make(f.root(), "socket", S_IFSOCK | 0600);
  f.make(f.root(), "sticky", S_IFDIR | 01777);
  auto const link = f.symlink(f.root(), "link", "../../etc/passwd");
  auto const big = f.make(f.root(), "sparse", S_IFREG | 0600);
  std::string const end(5000, 'z');
  REQUIRE(f.layer().write(big, 3u << 20, std::as_bytes(std::span{end})));
  REQUIRE(f.layer().setattr(big, {.size = 9u << 20}));
  for (Inode const inode : {f.root(), sub, file, link})
    REQUIRE(f.layer().setattr(
        inode, {.atime = Timestamp{7, 8}, .mtime = Timestamp{1'000'000'000, 123'456'789}}));

  auto const out = dir.file("out");
  auto const done = f.extract(out);
  REQUIRE(done);
  for (auto const& problem : f.problems()) MESSAGE(problem);
  CHECK(done->problems == 0);
  CHECK(done->entries == 11);
  CHECK(read_file(out + "/hard") == "data");
  CHECK(stat_of(out + "/sub").st_mode == (S_IFDIR | 0500));
  CHECK(stat_of(out + "/hard").st_nlink == 3);
  CHECK(stat_of(out + "/hard").st_ino == stat_of(out + "/sub/file").st_ino);
  CHECK(stat_of(out + "/sub/another").st_ino == stat_of(out + "/sub/file").st_ino);
  CHECK(stat_of(out + "/hard").st_mode == (S_IFREG | 0640));
  CHECK(stat_of(out + "/empty").st_mode == S_IFREG);
  CHECK(stat_of(out + "/fifo").st_mode == (S_IFIFO | 0604));
  CHECK(stat_of(out + "/socket").st_mode == (S_IFSOCK | 0600));
  CHECK(stat_of(out + "/sticky").st_mode == (S_IFDIR | 01777));
  CHECK(fs::read_symlink(out + "/link") == "../../etc/passwd");
  for (char const* name : {"", "/sub", "/hard", "/link"}) {
    CAPTURE(name);
    auto const st = stat_of(out + name);
    CHECK(st.st_mtim.tv_sec == 1'000'000'000);
    CHECK(st.st_mtim.tv_nsec == 123'456'789);
  }
  std::array<char, 8> value{};
  CHECK(getxattr((out + "/hard").c_str(), "user.note", value.data(), value.size()) == 3);
  CHECK(getxattr((out + "/hard").c_str(), "user.empty", value.data(), value.size()) == 0);
  auto const sparse = stat_of(out + "/sparse");
  CHECK(sparse.st_size == 9 << 20);
  CHECK(sparse.st_blocks * 512 < 64 << 10);
  CHECK(read_file(out + "/sparse").substr(3u << 20, 5000) == end);
}

TEST_CASE("extract: owners, devices and capabilities, as root") {
  if (!root_user()) return;
  Fixture f;
  test::TempDir dir;
  REQUIRE(f.layer().create(f.root(), "null", {S_IFCHR | 0622, 3, 4, std::uint64_t{1} << 32 | 3}));
  auto const file = f.make(f.root(), "tool", S_IFREG | 04755, "elf");
  REQUIRE(f.layer().setattr(file, {.uid = 1000, .gid = 4'000'000'000}));
  std::string const capability("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  REQUIRE(f.layer().setxattr(file, "security.capability", capability, XattrMode::kAny));
  auto const out = dir.file("out");
  auto const done = f.extract(out);
  REQUIRE(done);
  for (auto const& problem : f.problems()) MESSAGE(problem);
  CHECK(done->problems == 0);
  auto const null = stat_of(out + "/null");
  CHECK(null.st_mode == (S_IFCHR | 0622));
  CHECK(null.st_rdev == makedev(1, 3));
  CHECK(null.st_uid == 3);
  auto const tool = stat_of(out + "/tool");
  CHECK(tool.st_uid == 1000);
  CHECK(tool.st_gid == 4'000'000'000);
  CHECK(tool.st_mode == (S_IFREG | 04755));
  std::array<char, 64> value{};
  CHECK(getxattr((out + "/tool").c_str(), "security.capability", value.data(), value.size()) == 20);

  auto const plain = f.extract(dir.file("plain"), {.same_owner = false, .privileged = false});
  REQUIRE(plain);
  CHECK(plain->problems == 0);
  CHECK_FALSE(fs::exists(dir.file("plain/null")));
  CHECK(stat_of(dir.file("plain/tool")).st_uid == geteuid());
  CHECK(stat_of(dir.file("plain/tool")).st_mode ==
        (S_IFREG | 0755));  // not setuid for somebody else
}

TEST_CASE("extract: a directory that holds something is refused, and nothing in it is touched") {
  Fixture f;
  f.make(f.root(), "file", S_IFREG | 0644, "new");
  test::TempDir dir;
  fs::create_directory(dir.file("out"));
  std::ofstream(dir.file("out/file")) << "old";
  auto const refused = f.extract(dir.file("out"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kExists);
  CHECK(read_file(dir.file("out/file")) == "old");
  REQUIRE(f.extract(dir.file("out"), {.force = true}));
  CHECK(read_file(dir.file("out/file")) == "new");
  CHECK_FALSE(f.extract(dir.file("out/file")));
}

TEST_CASE("extract: links in the target lead nowhere, not even with force") {
  Fixture f;
  auto const sub = f.make(f.root(), "sub", S_IFDIR | 0755);
  f.make(sub, "file", S_IFREG | 0644, "new");
  f.make(f.root(), "file", S_IFREG | 0644, "new");
  test::TempDir dir;
  fs::create_directories(dir.file("outside"));
  std::ofstream(dir.file("outside/file")) << "old";
  fs::create_directory(dir.file("out"));
  fs::create_symlink(dir.file("outside"), dir.file("out/sub"));
  fs::create_symlink(dir.file("outside/file"), dir.file("out/file"));
  auto const done = f.extract(dir.file("out"), {.force = true});
  REQUIRE(done);
  CHECK(done->problems == 0);
  CHECK(read_file(dir.file("outside/file")) == "old");
  CHECK(read_file(dir.file("out/sub/file")) == "new");
  CHECK_FALSE(fs::is_symlink(dir.file("out/sub")));
  CHECK_FALSE(fs::is_symlink(dir.file("out/file")));
}

TEST_CASE("extract: what is in the way and can't go is a problem of that file alone") {
  Fixture f;
  f.make(f.root(), "a", S_IFREG | 0644, "new");
  f.make(f.root(), "b", S_IFREG | 0644, "new");
  test::TempDir dir;
  fs::create_directories(dir.file("out/a/full"));
  fs::create_directories(dir.file("out/b"));
  auto const done = f.extract(dir.file("out"), {.force = true});
  REQUIRE(done);
  CHECK(done->problems == 1);
  REQUIRE(f.problems().size() == 1);
  CHECK(f.problems()[0].starts_with("/a: "));
  CHECK(read_file(dir.file("out/b")) == "new");
}

TEST_CASE("extract: deeper than any path may be long, and with few descriptors") {
  Fixture f;
  Inode at = f.root();
  std::string const name(100, 'd');
  constexpr int kDepth = 1500;  // 150,000 bytes of path
  for (int i = 0; i < kDepth; ++i) at = f.make(at, name, S_IFDIR | 0755);
  auto const file = f.make(at, "leaf", S_IFREG | 0644, "deep");
  REQUIRE(f.layer().link(file, f.root(), "zz"));
  test::TempDir dir;
  auto const done = f.extract(dir.file("out"));
  REQUIRE(done);
  CHECK(done->problems == 0);
  CHECK(done->entries == kDepth + 3);
  CHECK(read_file(dir.file("out/zz")) == "deep");
  CHECK(stat_of(dir.file("out/zz")).st_nlink == 2);
}

TEST_CASE("extract: directories larger than a batch, files before and behind subdirectories") {
  Fixture f;
  for (int i = 0; i < 700; ++i) {
    f.make(f.root(), "f" + std::to_string(i), S_IFREG | 0644);
    if (i % 7 == 0)
      f.make(f.make(f.root(), "d" + std::to_string(i), S_IFDIR | 0755), "in", S_IFREG | 0644);
  }
  test::TempDir dir;
  auto const done = f.extract(dir.file("out"));
  REQUIRE(done);
  CHECK(done->entries == 1 + 700 + 200);
  CHECK(static_cast<int>(std::distance(fs::recursive_directory_iterator(dir.file("out")), {})) ==
        900);
}

TEST_CASE("extract: a wish to stop is heard") {
  Fixture f;
  f.make(f.root(), "file", S_IFREG | 0644);
  test::TempDir dir;
  std::atomic<bool> const stop{true};
  auto const done = f.extract(dir.file("out"), {.stop = &stop});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == Errc::kInterrupted);
}
