// SPDX-License-Identifier: Apache-2.0
// The program without a process: arguments in, text and an exit code out.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/print.h"
#include "cli/run.h"
#include "cli/store_arg.h"
#include "cli/units.h"
#include "engine/store.h"
#include "tests/support/support.h"

using namespace lcfs;

namespace {

struct Answer {
  int code = 0;
  std::string out, err;
  [[nodiscard]] std::vector<nlohmann::json> json() const {
    std::vector<nlohmann::json> lines;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
};

using Environment = std::map<std::string, std::string>;

cli::Io make_io(std::ostream& out, std::ostream& err, Environment environment) {
  return cli::Io{
      out, err, false,
      [environment = std::move(environment)](char const* name) -> std::optional<std::string> {
        auto const found = environment.find(name);
        return found == environment.end() ? std::nullopt : std::optional{found->second};
      }};
}

Answer lcfs_as(std::vector<std::string> args, Environment environment = {}) {
  std::ostringstream out, err;
  int const code = cli::run(std::move(args), make_io(out, err, std::move(environment)));
  return {code, out.str(), err.str()};
}

Answer lcfs_run(std::vector<std::string> args, Environment environment = {}) {
  args.insert(args.begin(), "lcfs");
  return lcfs_as(std::move(args), std::move(environment));
}

bool one_line(std::string const& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

// A store with one layer, "base", that has one of everything.
class SmallStore {
 public:
  SmallStore() {
    REQUIRE(lcfs_run({"mkfs", "-q", "--size", "32M", path()}).code == cli::kOk);
    auto device = open_device(path(), Access::kReadWrite);
    REQUIRE(device);
    auto store = Store::open(*std::move(device), {});
    REQUIRE(store);
    auto const id = (*store)->create_layer("base", 0);
    REQUIRE(id);
    {
      auto const layer = (*store)->layer(*id);
      REQUIRE(layer);
      fill(**layer);
    }
    REQUIRE((*store)->freeze_layer(*id));
    REQUIRE((*store)->create_layer("top", *id));
    REQUIRE((*store)->close());
  }
  [[nodiscard]] std::string path() const { return dir_.file("store"); }
  Answer run(std::vector<std::string> args) const {
    return lcfs_run(std::move(args), {{"LCFS_STORE", path()}});
  }

 private:
  static void fill(Layer& layer) {
    auto const root = layer.root();
    auto const etc = layer.create(root, "etc", {S_IFDIR | 0755, 0, 0, 0});
    REQUIRE(etc);
    auto const file = layer.create(etc->inode, "motd", {S_IFREG | 04750, 7, 8, 0});
    REQUIRE(file);
    std::string const text{"hello\0layer\n", 12};
    REQUIRE(layer.write(file->inode, 0, std::as_bytes(std::span{text})));
    REQUIRE(layer.setxattr(file->inode, "user.x", "v", XattrMode::kAny));
    REQUIRE(layer.setattr(file->inode, {.mtime = Timestamp{-1, 5}}));
    REQUIRE(layer.link(file->inode, root, "hard"));
    REQUIRE(layer.symlink(root, "abs", "/etc/./../etc/motd", {S_IFLNK | 0777, 0, 0, 0}));
    REQUIRE(layer.symlink(root, "dir", "etc", {S_IFLNK | 0777, 0, 0, 0}));
    REQUIRE(layer.symlink(root, "loop", "loop", {S_IFLNK | 0777, 0, 0, 0}));
    REQUIRE(layer.symlink(root, "up", "../../../etc", {S_IFLNK | 0777, 0, 0, 0}));
    REQUIRE(layer.create(root, "null", {S_IFCHR | 0666, 0, 0, std::uint64_t{1} << 32 | 3}));
    REQUIRE(layer.create(root, std::string{"new\nline\xff\\\x1b[31m"}, {S_IFIFO | 0600, 0, 0, 0}));
  }

  test::TempDir dir_;
};

}  // namespace

TEST_CASE("sizes: what is one is read exactly, what is none is refused") {
  struct Row {
    char const* text;
    std::uint64_t bytes;
  };
  for (auto const& row : {Row{"0", 0},
                          {"4096", 4096},
                          {"4k", 4096},
                          {"4K", 4096},
                          {"4KiB", 4096},
                          {"4kb", 4096},
                          {"10G", 10ull << 30},
                          {"512MiB", 512ull << 20},
                          {"1.5T", 3ull << 39},
                          {"0.5K", 512},
                          {"16E", 0},
                          {"15E", 15ull << 60},
                          {"18446744073709551615", ~0ull},
                          {"7B", 7}}) {
    CAPTURE(std::string{row.text});
    auto const size = cli::parse_size(row.text);
    if (std::string{row.text} == "16E") {
      CHECK_FALSE(size);
    } else {
      REQUIRE(size);
      CHECK(*size == row.bytes);
    }
  }
  for (char const* text : {"", "G", "-1", "+1", " 1", "1 G", "1.G", "1.5", "1X", "1Ki ", "1iB",
                           "1KiBB", "0x10", "18446744073709551616", "99999999999E", "1e3", "1Ki"}) {
    CAPTURE(std::string{text});
    CHECK_FALSE(cli::parse_size(text));
  }
}

TEST_CASE("sizes and times are written for people") {
  CHECK(cli::size_text(0) == "0 B");
  CHECK(cli::size_text(1023) == "1023 B");
  CHECK(cli::size_text(1024) == "1.0 KiB");
  CHECK(cli::size_text((1ull << 20) - 1) == "1.0 MiB");
  CHECK(cli::size_text(10ull << 30) == "10.0 GiB");
  CHECK(cli::size_text(~0ull) == "16.0 EiB");
  CHECK(cli::time_text(0) == "-");
  CHECK(cli::time_json(1'700'000'000'000'000'000) == "2023-11-14T22:13:20Z");
  CHECK(cli::timestamp_text({-1, 5}) == "1969-12-31 23:59:59.000000005");
  CHECK(cli::timestamp_text({INT64_MAX, 0}) == "@9223372036854775807.000000000");
}

TEST_CASE("text: bytes that a terminal would act on are shown as hexadecimal") {
  CHECK(cli::escape("plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80") ==
        "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
  CHECK(cli::escape("a\nb\x1b[0m\x7f\\") == "a\\x0ab\\x1b[0m\\x7f\\x5c");
  CHECK(cli::escape("\xff\xc3") == "\\xff\\xc3");
  CHECK(cli::escape("\xc2\x9b") == "\\xc2\\x9b");           // C1 control
  CHECK(cli::escape("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
  CHECK(cli::escape("\xed\xa0\x80\xc0\x80") == "\\xed\\xa0\\x80\\xc0\\x80");  // surrogate, overlong
  CHECK(cli::escape_controls("\\x0a\n") == "\\x0a\\x0a");
}

TEST_CASE("default store: option, environment, then the user's") {
  std::ostringstream out;
  auto const path = [&](std::string const& given, Environment env) {
    return cli::store_path(make_io(out, out, std::move(env)), given);
  };
  CHECK(path("x", {{"LCFS_STORE", "y"}}) == "x");
  CHECK(path("", {{"LCFS_STORE", "y"}}) == "y");
  auto const expect = [](std::string const& user) {
    return geteuid() == 0 ? "/var/lib/lcfs/store.lcfs" : user + "/lcfs/store.lcfs";
  };
  CHECK(path("", {{"LCFS_STORE", ""}, {"XDG_DATA_HOME", "/d"}, {"HOME", "/h"}}) == expect("/d"));
  CHECK(path("", {{"XDG_DATA_HOME", "relative"}, {"HOME", "/h"}}) == expect("/h/.local/share"));
}

TEST_CASE("usage: wrong arguments are one line and code 2, of fsck 16") {
  for (std::vector<std::string> const& args : {std::vector<std::string>{},
                                               {"nonsense"},
                                               {"mkfs"},
                                               {"mkfs", "--size", "1x", "f"},
                                               {"mkfs", "-U", "1", "f"},
                                               {"import"},
                                               {"import", "--progress", "loud", "a"},
                                               {"layer"},
                                               {"ls"},
                                               {"cat", "x"},
                                               {"extract", "x"},
                                               {"df", "extra"},
                                               {"image", "show", "--config", "--json", "x"}}) {
    auto const answer = lcfs_run(args);
    CAPTURE(answer.err);
    CHECK(answer.code == cli::kUsage);
    CHECK(answer.out.empty());
    CHECK(one_line(answer.err));
    CHECK(answer.err.starts_with(args.empty() || args[0] == "nonsense" ? "lcfs: "
                                                                       : "lcfs " + args[0]));
  }
  CHECK(lcfs_run({"nonsense", "x"}).err == "lcfs: unknown command \"nonsense\"; see lcfs --help\n");
  CHECK(lcfs_run({"layer", "nonsense"}).err ==
        "lcfs layer: unknown command \"nonsense\"; see lcfs layer --help\n");
  CHECK(lcfs_run({"bogus", "undo"}).err == "lcfs: unknown command \"bogus\"; see lcfs --help\n");
  CHECK(lcfs_run({"--store", "s", "image", "ls"}).err ==
        "lcfs: unexpected arguments \"--store\" \"s\"; see lcfs --help\n");
  CHECK(lcfs_run({"ls", "--nope", "x", "y", "--no"}).err ==
        "lcfs ls: unexpected arguments \"--nope\" \"--no\"; see lcfs ls --help\n");
  CHECK(lcfs_run({"df", "extra"}).err ==
        "lcfs df: unexpected argument \"extra\"; see lcfs df --help\n");
  CHECK(lcfs_run({"ls", "x", "--store"}).err ==
        "lcfs ls: option --store needs a value; see lcfs ls --help\n");
  CHECK(lcfs_run({"image"}).err == "lcfs image: a command is required; see lcfs image --help\n");
  CHECK(lcfs_run({"fsck", "-n", "-y", "f"}).code == cli::kFsckUsage);
  CHECK(lcfs_run({"fsck", "-p", "--remove-unreadable", "f"}).code == cli::kFsckUsage);
  CHECK(lcfs_run({"fsck", "-n", "--heal-from", "a", "f"}).code == cli::kFsckUsage);
  CHECK(lcfs_run({"fsck", "f"}).code == cli::kFsckOperation);  // there is no terminal to ask at
  CHECK(lcfs_as({"/sbin/fsck.lcfs", "--nonsense"}).code == cli::kFsckUsage);
}

TEST_CASE("help and version go to standard output, code 0") {
  for (std::vector<std::string> const& args : {std::vector<std::string>{"--help"},
                                               {"mkfs", "-h"},
                                               {"layer", "ls", "--help"},
                                               {"fsck", "--help"}}) {
    auto const answer = lcfs_run(args);
    CHECK(answer.code == cli::kOk);
    CHECK(answer.err.empty());
    CHECK(answer.out.find("Example:") != std::string::npos);
  }
  CHECK(lcfs_run({"--version"}).out.find("store format 1") != std::string::npos);
  CHECK(lcfs_as({"fsck.lcfs", "-V"}).code == cli::kOk);
}

TEST_CASE("mkfs: makes a store that fsck finds clean, and says what it made") {
  test::TempDir dir;
  auto const store = dir.file("store");
  auto const made = lcfs_as({"/sbin/mkfs.lcfs", "--size", "16M", "-L", "name", "-U",
                             "12345678-1234-5678-9abc-def012345678", "--json", store});
  CAPTURE(made.err);
  REQUIRE(made.code == cli::kOk);
  auto const answer = made.json().at(0);
  CHECK(answer["uuid"] == "12345678-1234-5678-9abc-def012345678");
  CHECK(answer["label"] == "name");
  CHECK(answer["size"] == 16 << 20);
  CHECK(answer["created"] == true);
  struct stat st {};
  REQUIRE(stat(store.c_str(), &st) == 0);
  CHECK(st.st_size == 16 << 20);
  CHECK((st.st_mode & 0777) == 0600);
  CHECK(lcfs_run({"fsck", "-n", store}).code == cli::kFsckClean);
  CHECK(lcfs_as({"fsck.lcfs", "-n", "--json", store}).json().back()["clean"] == true);
}

TEST_CASE("mkfs: what is there is refused, and -f overwrites it") {
  test::TempDir dir;
  auto const store = dir.file("store");
  auto const refused = [&](std::vector<std::string> args, std::string const& why) {
    args.insert(args.begin(), "mkfs");
    args.push_back(store);
    auto const answer = lcfs_run(args);
    CAPTURE(answer.err);
    CHECK(answer.code == cli::kFailed);
    CHECK(one_line(answer.err));
    CHECK(answer.err.find(why) != std::string::npos);
    CHECK(answer.err.find(store) != std::string::npos);
  };
  refused({}, "--size");
  refused({"--size", "1M"}, "16777216 bytes");
  CHECK_FALSE(std::filesystem::exists(store));
  CHECK(lcfs_run({"mkfs", "-n", "--size", "16M", store}).code == cli::kOk);
  CHECK_FALSE(std::filesystem::exists(store));

  std::ofstream(store) << "somebody's letters";
  refused({"--size", "16M"}, "already contains");
  CHECK(std::filesystem::file_size(store) == 18);
  CHECK(lcfs_run({"mkfs", "-q", "-f", "--size", "16M", store}).out.empty());
  refused({"--size", "16M"}, "lcfs store");
  CHECK(lcfs_run({"mkfs", "-f", "--size", "32M", store}).code == cli::kOk);
  CHECK(std::filesystem::file_size(store) == 32 << 20);
  CHECK(lcfs_run({"fsck", "-n", store}).code == cli::kFsckClean);

  auto const holder = open_device(store, Access::kReadWrite);
  REQUIRE(holder);
  refused({"-f"}, "in use by pid " + std::to_string(getpid()));
}

TEST_CASE("a store that is missing, none, or in use: one line, code 1") {
  test::TempDir dir;
  auto const answer = lcfs_run({"df", "--store", dir.file("none")});
  CHECK(answer.code == cli::kFailed);
  CHECK(answer.err.find("no such store") != std::string::npos);
  std::ofstream(dir.file("text")) << std::string(1 << 20, 'x');
  CHECK(lcfs_run({"df", "--store", dir.file("text")}).err.find("not an lcfs store") !=
        std::string::npos);
  CHECK(lcfs_run({"fsck", "-n", dir.file("none")}).code == cli::kFsckOperation);
  CHECK(lcfs_run({"fsck", "-n", dir.file("text")}).code == cli::kFsckOperation);
  CHECK(lcfs_run({"import", "--store", dir.file("text"), dir.file("text")}).code == cli::kFailed);
  CHECK(std::filesystem::file_size(dir.file("text")) == 1 << 20);
}

TEST_CASE("layer: ls, show, tree, create, freeze, rm") {
  SmallStore const store;
  auto const all = store.run({"layer", "ls", "--json"}).json();
  REQUIRE(all.size() == 2);
  CHECK(all[0]["name"] == "base");
  CHECK(all[0]["state"] == "frozen");
  CHECK(all[0]["children"] == 1);
  CHECK(all[0]["own_bytes"] == all[0]["shared_bytes"]);
  CHECK(all[1]["parent"] == "base");
  CHECK(all[1]["inherited_bytes"] == all[0]["own_bytes"]);
  auto shown = store.run({"layer", "show", "--json", "top"}).json().at(0);
  CHECK(shown.at("digest").is_null());
  shown.erase("digest");
  CHECK(shown == all[1]);
  CHECK(store.run({"layer", "show", "top"}).out.find("parent    base\n") != std::string::npos);
  CHECK(store.run({"layer", "tree"}).out.find("\n`- top  ") != std::string::npos);
  CHECK(store.run({"layer", "tree", "--json"}).json().at(1)["depth"] == 1);

  CHECK(store.run({"layer", "rm", "base"}).code == cli::kFailed);
  CHECK(store.run({"layer", "create", "bad/name"}).code == cli::kUsage);
  CHECK(store.run({"layer", "create", "side", "--parent", "base"}).code == cli::kOk);
  CHECK(store.run({"layer", "create", "side"}).code == cli::kFailed);
  CHECK(store.run({"layer", "freeze", "side"}).code == cli::kOk);
  CHECK(store.run({"layer", "show", "--json", "side"}).json().at(0)["state"] == "frozen");
  auto const some = store.run({"layer", "rm", "nothing", "side", "top"});
  CHECK(some.code == cli::kFailed);
  CHECK(one_line(some.err));
  CHECK(store.run({"layer", "ls", "--json"}).json().size() == 1);
  CHECK(store.run({"fsck", "-n"}).code == cli::kFsckClean);
}

TEST_CASE("a chain of layers, however long, is drawn within the page") {
  SmallStore const store;
  for (int i = 0; i < 40; ++i)
    REQUIRE(store
                .run({"layer", "create", "n" + std::to_string(i), "--parent",
                      i == 0 ? "top" : "n" + std::to_string(i - 1)})
                .code == 0);
  CHECK(store.run({"layer", "tree"}).out.find(std::string(45, ' ') + "`- [41] n39  ") !=
        std::string::npos);
}

TEST_CASE("a layer may be called like a command") {
  SmallStore const store;
  for (char const* name : {"ls", "layer", "rm", "df", "help"}) {
    CAPTURE(name);
    CHECK(store.run({"layer", "create", name, "--parent", "base"}).code == cli::kOk);
    CHECK(store.run({"ls", name, "etc"}).out == "motd\n");
    CHECK(store.run({"layer", "rm", name}).code == cli::kOk);
  }
  CHECK(store.run({"ls", "--", "base", "-x"}).err == "lcfs ls: -x: No such file or directory\n");
}

TEST_CASE("ls: sorted, escaped, and links followed inside the layer") {
  SmallStore const store;
  CHECK(store.run({"ls", "base"}).out ==
        "abs\ndir\netc\nhard\nloop\nnew\\x0aline\\xff\\x5c\\x1b[31m\nnull\nup\n");
  CHECK(store.run({"ls", "base", "/etc"}).out == "motd\n");
  CHECK(store.run({"ls", "base", "dir"}).out == "motd\n");
  CHECK(store.run({"ls", "base", "//up/./"}).out == "motd\n");
  CHECK(store.run({"ls", "base", "/abs"}).out == "/abs\n");
  CHECK(store.run({"ls", "-a", "base", "/etc"}).out == ".\n..\nmotd\n");
  CHECK(store.run({"ls", "-d", "base", "/etc"}).out == "/etc\n");
  CHECK(store.run({"ls", "-l", "base", "/dir"}).out.find("/dir -> etc\n") != std::string::npos);
  auto const long_form = store.run({"ls", "-l", "base", "/etc"}).out;
  CHECK(long_form == "-rwsr-x---  2  7  8  12  1969-12-31 23:59:59  motd\n");
  CHECK(store.run({"ls", "-l", "base", "/null"}).out.find("crw-rw-rw-  1  0  0  1, 3") !=
        std::string::npos);
  CHECK(store.run({"ls", "-R", "base"}).out.find("\n/etc:\nmotd\n") != std::string::npos);
  auto const json = store.run({"ls", "-R", "--json", "base"}).json();
  CHECK(json.size() == 9);
  CHECK(json[5]["path_hex"] == "2f6e65770a6c696e65ff5c1b5b33316d");
  CHECK(json[0]["target"] == "/etc/./../etc/motd");
  CHECK(json[6]["rdev"]["minor"] == 3);
  auto const missing = store.run({"ls", "base", "/none", "/etc", "/loop/", "/etc/motd/x"});
  CHECK(missing.code == cli::kFailed);
  CHECK(missing.out == "motd\n");
  CHECK(missing.err ==
        "lcfs ls: /none: No such file or directory\nlcfs ls: /loop/: Too many levels of symbolic "
        "links\n"
        "lcfs ls: /etc/motd/x: Not a directory\n");
}

TEST_CASE("cat: bytes as they are, through links inside the layer") {
  SmallStore const store;
  std::string const text{"hello\0layer\n", 12};
  CHECK(store.run({"cat", "base", "/etc/motd"}).out == text);
  CHECK(store.run({"cat", "top", "/abs", "hard"}).out == text + text);
  CHECK(store.run({"cat", "base", "/etc"}).err == "lcfs cat: /etc: Is a directory\n");
  CHECK(store.run({"cat", "base", "/null"}).code == cli::kFailed);
  CHECK(store.run({"cat", "base", "/loop"}).code == cli::kFailed);
  CHECK(store.run({"cat", "nothing", "/etc/motd"}).code == cli::kFailed);
}

TEST_CASE("cat: an output that can't be written is an error") {
  SmallStore const store;
  std::ofstream full("/dev/full");
  std::ostringstream err;
  CHECK(cli::run({"lcfs", "cat", "--store", store.path(), "base", "/etc/motd"},
                 make_io(full, err, {})) == cli::kFailed);
  CHECK(err.str() == "lcfs: standard output: cannot write\n");
}

TEST_CASE("stat: the last link is not followed") {
  SmallStore const store;
  auto const json = store.run({"stat", "--json", "base", "/dir", "dir/motd"}).json();
  REQUIRE(json.size() == 2);
  CHECK(json[0]["type"] == "symlink");
  CHECK(json[0]["target"] == "etc");
  CHECK(json[1]["mode"] == "4750");
  CHECK(json[1]["nlink"] == 2);
  CHECK(json[1]["mtime"]["sec"] == -1);
  CHECK(json[1]["xattrs"][0]["name"] == "user.x");
  CHECK(json[1]["xattrs"][0]["value_hex"] == "76");
  auto const text = store.run({"stat", "--runs", "base", "/etc/motd"}).out;
  CHECK(text.find("mode    4750 -rwsr-x---\n") != std::string::npos);
  CHECK(text.find("xattr   user.x=0x76\n") != std::string::npos);
}

TEST_CASE("df: the sums come out, and nothing changes by looking") {
  SmallStore const store;
  auto const before = store.run({"df", "--json"});
  auto const lines = before.json();
  REQUIRE(lines.size() == 3);
  auto const& sum = lines.back();
  CHECK(sum["sum_ok"] == true);
  CHECK(sum["total_bytes"] == 32 << 20);
  CHECK(sum["total_bytes"].get<long>() ==
        sum["reserved_bytes"].get<long>() + sum["store_tree_bytes"].get<long>() +
            sum["layers_bytes"].get<long>() + sum["history_bytes"].get<long>() +
            sum["pending_bytes"].get<long>() + sum["free_bytes"].get<long>());
  CHECK(lines[0]["own_bytes"].get<long>() + lines[1]["own_bytes"].get<long>() ==
        sum["layers_bytes"].get<long>());
  CHECK(store.run({"df", "--bytes"}).out.find("the sum is right: 8192 blocks") !=
        std::string::npos);
  CHECK(store.run({"df", "--json"}).out == before.out);
}

TEST_CASE("image: an empty store has none") {
  SmallStore const store;
  CHECK(store.run({"image", "ls", "--json"}).out == "{\"images\":[]}\n");
  CHECK(store.run({"image", "ls"}).out == "NAME  ID  LAYERS  SIZE  IMPORTED\n");
  CHECK(store.run({"image", "show", "x"}).code == cli::kFailed);
  CHECK(store.run({"image", "rm", "x"}).code == cli::kFailed);
}

TEST_CASE("import: a store that it made goes again if there was nothing to import") {
  test::TempDir dir;
  auto const store = dir.file("new/dirs/store");
  auto const answer = lcfs_run({"import", "--store", store, dir.file("no-archive")});
  CHECK(answer.code == cli::kFailed);
  CHECK(answer.err.find("no-archive") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(dir.file("new")));
  CHECK(lcfs_run({"import", "--store", dir.file("small"), "--size", "1M", dir.file("no-archive")})
            .err.find("too small") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(dir.file("small")));
}

TEST_CASE("fsck: damage is 4, and the finding is on standard output") {
  SmallStore const store;
  auto const run = store.run({"stat", "--json", "--runs", "base", "/etc/motd"});
  REQUIRE(run.code == cli::kOk);
  {
    std::fstream file(store.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (int slot : {0, 8}) {
      file.seekp(slot * 4096 + 0x98);
      file.put('\x7e');
    }
  }
  auto const answer = store.run({"fsck", "-n", "--json"});
  CHECK(answer.code == cli::kFsckDamage);
  CHECK(answer.json().at(0)["finding"] == "superblock");
  CHECK(answer.json().back()["clean"] == false);
}
