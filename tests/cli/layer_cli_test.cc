// SPDX-License-Identifier: Apache-2.0
// The verbs of layers and images, as somebody would type them.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/run.h"
#include "format/records.h"
#include "oci/sha256.h"
#include "tests/support/host.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"

using namespace lcfs;
using namespace lcfs::format;
using nlohmann::json;

namespace {

struct Answer {
  int code = 0;
  std::string out, err;
};

bool has(std::string const& text, std::string const& word) {
  return text.find(word) != std::string::npos;
}
bool one_line(std::string const& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

// A store with the image "test:latest" of two layers, a frozen "one" and an open "work" on it.
class Place {
 public:
  Place() {
    test::TestImage image;
    image.name = "test:latest";
    image.layers = {
        test::gzip_layer(
            test::TarBuilder().directory("etc").file("etc/motd", "hello\n").end().text()),
        test::plain_layer(test::TarBuilder()
                              .file("big", std::string(300'000, 'b'))
                              .symlink("to", "etc/motd")
                              .end()
                              .text())};
    test::write_file(file("image.tar"), test::tar_of(test::docker_members({image})));
    test::write_file(
        file("one.tar"),
        test::TarBuilder().file("etc/motd", "hello\nagain\n").file(".wh.to", "").end().text());
    ok({"mkfs", "-q", "--size", "64M", file("store")});
    ok({"import", "-q", file("image.tar")});
    ok({"layer", "apply", "test", file("one.tar"), "one"});
    ok({"layer", "create", "work", "--parent", "one"});
  }
  ~Place() {
    CHECK(run({"fsck", "-n"}).code == 0);
    CHECK(has(run({"df"}).out, "the sum is right"));
  }
  Place(Place const&) = delete;
  Place& operator=(Place const&) = delete;

  [[nodiscard]] std::string file(std::string const& name) const { return dir_.file(name); }
  Answer run(std::vector<std::string> args, std::map<std::string, std::string> more = {}) const {
    more.insert({{"LCFS_STORE", file("store")}, {"SOURCE_DATE_EPOCH", "1700000000"}});
    std::ostringstream out, err;
    args.insert(args.begin(), "lcfs");
    cli::Io io{out, err, false, [&more](char const* name) -> std::optional<std::string> {
                 auto const found = more.find(name);
                 return found == more.end() ? std::nullopt : std::optional{found->second};
               }};
    int const code = cli::run(std::move(args), io);
    return {code, out.str(), err.str()};
  }
  std::string ok(std::vector<std::string> args) const {
    auto const answer = run(std::move(args));
    CHECK_MESSAGE(answer.code == 0, answer.err);
    return answer.out;
  }
  // Must fail, with one line that holds all of it.
  void refused(std::vector<std::string> args, std::vector<std::string> const& words,
               int code = cli::kFailed) const {
    auto const answer = run(std::move(args));
    CAPTURE(answer.err);
    CHECK(answer.code == code);
    CHECK(one_line(answer.err));
    for (auto const& word : words) CHECK_MESSAGE(has(answer.err, word), word);
  }
  [[nodiscard]] json layer(std::string const& name) const {
    return json::parse(ok({"layer", "show", "--json", name}));
  }
  [[nodiscard]] std::string digest(std::string const& name) const {
    return json::parse(ok({"layer", "show", "--digest", "--json", name}))["digest"];
  }
  [[nodiscard]] json config(std::string const& name) const {
    return json::parse(ok({"image", "show", "--config", name}));
  }

 private:
  test::TempDir dir_;
};

std::vector<std::string> lines_of(std::string const& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("layer create: on a layer, an image, or any digest of theirs; what it freezes is said") {
  Place const place;
  auto const top = place.layer("test");
  int n = 0;
  for (std::string const& parent :
       {std::string("test"), std::string("test:latest"), top["chain_id"].get<std::string>(),
        top["chain_id"].get<std::string>().substr(7, 8), top["diff_id"].get<std::string>(),
        top["diff_id"].get<std::string>().substr(7, 6)}) {
    CAPTURE(parent);
    auto const name = "c" + std::to_string(n++);
    auto const answer = place.run({"layer", "create", name, "--parent", parent});
    CHECK(answer.code == 0);
    CHECK(answer.err.empty());
    CHECK(place.layer(name)["parent"] == top["name"]);
  }
  auto const answer = place.run({"layer", "create", "child", "--parent", "work"});
  CHECK(answer.code == 0);
  CHECK(answer.err ==
        "lcfs layer create: layer work was writable; it is now frozen because another layer is "
        "based on it\n");
  CHECK(place.layer("work")["state"] == "frozen");
}

TEST_CASE(
    "names: what nothing is called is answered with what is like it; what would be taken for "
    "something else is refused") {
  Place const place;
  place.refused({"layer", "show", "wrok"}, {"'wrok'", "did you mean work?"});
  place.refused({"layer", "show", "tset"}, {"did you mean", "test"});
  place.refused({"layer", "show", "test:12"}, {"did you mean", "test"});
  place.refused({"layer", "show", "nothing-like-it"}, {"see lcfs layer ls"});
  place.refused({"layer", "create", "x", "--parent", "on"}, {"did you mean one?"});
  place.refused({"layer", "create", "test"}, {"'test'", "means the image"});
  place.refused({"layer", "rename", "work", "test"}, {"means the image"});
  place.refused({"layer", "commit", "work", "--as", "one"}, {"'one' already exists"});
  place.refused({"layer", "squash", "work", "one"}, {"'one' already exists"});
  place.ok({"layer", "create", "2024"});
}

TEST_CASE(
    "usage: what is no name, platform or change of a config is told with code 2 before anything is "
    "opened, and whose help to see") {
  Place const place;
  place.refused({"layer", "create", "0123456789ab"},
                {"a layer cannot be called '0123456789ab'", "taken for a digest",
                 "see lcfs layer create --help"},
                cli::kUsage);
  place.refused({"layer", "create", "-x"}, {"see lcfs layer create --help"}, cli::kUsage);
  place.refused({"layer", "create", ""}, {"1 to 255"}, cli::kUsage);
  place.refused({"layer", "rename", "work", "a/b"}, {"1 to 255", "see lcfs layer rename --help"},
                cli::kUsage);
  place.refused({"layer", "commit", "work", "--as", "a b"}, {"--as: a layer name"}, cli::kUsage);
  place.refused({"layer", "squash", "work", "a/b"}, {"1 to 255"}, cli::kUsage);
  place.refused({"layer", "apply", "one", place.file("one.tar"), "a/b"}, {"1 to 255"}, cli::kUsage);
  place.refused({"undo", "--layer", "work", "--as", "a/b"},
                {"--as: a layer name", "see lcfs undo --help"}, cli::kUsage);
  place.refused({"image", "tag", "test", "Upper"},
                {"\"Upper\" is not a valid image name", "see lcfs image tag --help"}, cli::kUsage);
  place.refused({"image", "tag", "test", "a@sha256:00"}, {"must not contain a digest"},
                cli::kUsage);
  place.refused({"image", "tag", "test", "a:"}, {"a tag has"}, cli::kUsage);
  place.refused({"image", "tag", "test", "a//b"}, {"each part"}, cli::kUsage);
  place.refused({"layer", "commit", "work", "--image", "Upper"},
                {"--image:", "not a valid image name"}, cli::kUsage);
  place.refused({"import", "--platform", "foo", place.file("image.tar")},
                {"\"foo\" is not OS/ARCHITECTURE", "see lcfs import --help"}, cli::kUsage);
  place.refused({"layer"}, {"see lcfs layer --help"}, cli::kUsage);
  place.refused({"layer", "nonsense"}, {"see lcfs layer --help"}, cli::kUsage);
  place.refused({"nonsense"}, {"see lcfs --help"}, cli::kUsage);
  // What could be there and isn't is another thing.
  place.refused({"layer", "show", "a/b"}, {"a/b"});
  place.refused({"layer", "rm", "nothing"}, {"nothing"});
}

TEST_CASE("output: a host that has no room for it is told as that, not as a store that is full") {
  if (!test::can_use_host()) return;
  Place const place;
  test::Mount const small("tmpfs", "tmpfs", "size=64k");
  std::string const words = "free space there, or write the output elsewhere";
  for (auto const& args :
       {std::vector<std::string>{"export", "-q", "-o", small.file("out.tar"), "test"},
        {"export", "-q", "-o", small.file("layout/"), "test"},
        {"export", "-q", "-o", "/dev/full", "test"},
        {"extract", "-q", "test", small.file("tree")}}) {
    CAPTURE(args[3]);
    auto const answer = place.run(args);
    CAPTURE(answer.err);
    CHECK(answer.code == cli::kFailed);
    CHECK(one_line(answer.err));
    CHECK(has(answer.err, "No space left on device; " + words));
    CHECK_FALSE(has(answer.err, "image rm"));
  }
}

TEST_CASE(
    "layer rm: those above go first whatever the order; what stands on a layer is named; --lazy "
    "waits for it") {
  Place const place;
  place.refused({"layer", "rm", "one"}, {"one: layer work is based on it", "--lazy"});
  place.refused({"layer", "rm", "test"}, {"layer one and image test:latest are based on it"});
  place.ok({"layer", "create", "top", "--parent", "work"});
  auto const planned = place.ok({"layer", "rm", "-n", "work", "top"});
  CHECK(lines_of(planned).size() == 4);
  place.ok({"layer", "rm", "work", "top"});
  place.refused({"layer", "show", "work"}, {"no layer"});

  place.ok({"layer", "create", "a", "--parent", "one"});
  place.ok({"layer", "create", "b", "--parent", "one"});
  auto const plan = place.ok({"layer", "rm", "-n", "--lazy", "--json", "one", "a", "b"});
  CHECK(lines_of(plan).size() == 3);
  CHECK(json::parse(lines_of(plan).back())["layer"] == "one");
  auto const lazy = place.run({"layer", "rm", "--lazy", "one"});
  CHECK(lazy.code == 0);
  CHECK(has(lazy.err, "one: will be deleted later: layers a, b are based on it"));
  auto const hidden = place.layer("a")["parent"].get<std::string>();
  CHECK(hidden.starts_with('@'));
  CHECK(place.layer(hidden)["anonymous"] == true);
  place.refused({"layer", "show", "one"}, {"no layer"});
  CHECK(has(place.ok({"layer", "tree"}), hidden));
  CHECK(place.ok({"cat", "b", "/etc/motd"}) == "hello\nagain\n");
  place.ok({"layer", "create", "one"});  // the name is free
  place.refused({"layer", "rm", hidden}, {"are based on it"});
  place.ok({"layer", "rm", "a"});
  CHECK(place.layer(hidden)["children"] == 1);
  place.ok({"layer", "rm", "b"});
  place.refused({"layer", "show", hidden}, {"no layer"});
}

TEST_CASE("layer rm --lazy: a name given again keeps it; an image's layer goes with the image") {
  Place const place;
  place.ok({"layer", "rm", "--lazy", "one"});
  auto const hidden = place.layer("work")["parent"].get<std::string>();
  place.ok({"layer", "rename", hidden, "kept"});
  CHECK(place.layer("kept")["anonymous"] == false);
  place.ok({"layer", "rm", "work"});
  CHECK(place.layer("kept")["children"] == 0);
  place.ok({"layer", "commit", "kept", "--image", "made"});
  CHECK(place.run({"layer", "rm", "--lazy", "kept"}).code == 0);
  place.refused({"layer", "show", "kept"}, {"no layer"});
  CHECK(place.ok({"cat", "made", "/etc/motd"}) == "hello\nagain\n");
  auto const before = lines_of(place.ok({"layer", "ls", "--json"})).size();
  place.ok({"image", "rm", "made"});
  CHECK(lines_of(place.ok({"layer", "ls", "--json"})).size() == before - 1);
}

TEST_CASE(
    "image tag, rm, prune: names move; what has none is pruned; nothing goes with --dry-run") {
  Place const place;
  place.ok({"image", "tag", "test", "mine", "host:5000/a/b:v1"});
  CHECK(has(place.ok({"image", "ls"}), "mine:latest"));
  CHECK(has(place.ok({"image", "show", "host:5000/a/b:v1"}), "name      test:latest"));
  for (char const* name :
       {"work", "localhost/work:latest",
        "docker.io/library/work"}) {  // what they would be called for short, a layer is
    place.refused({"image", "tag", "test", name}, {"a layer is called 'work'"});
  }
  place.refused({"image", "tag", "test", "sha256:" + std::string(64, 'a')},
                {"is not a valid image name"}, cli::kUsage);
  place.ok({"layer", "commit", "work", "--image", "other", "--as", "done"});
  place.ok({"image", "tag", "other", "test:latest"});  // moves
  place.ok({"image", "rm", "mine", "host:5000/a/b:v1"});
  CHECK_FALSE(has(place.ok({"image", "ls"}), "mine"));
  CHECK(has(place.ok({"image", "show", "test"}), "name      other:latest"));

  place.ok({"layer", "commit", "work", "--image", "other", "--as", "later"});
  place.ok({"image", "rm", "test:latest"});
  auto const plan = place.ok({"image", "prune", "--dry-run"});
  auto const list = place.ok({"layer", "ls"});
  CHECK(lines_of(place.ok({"image", "prune"})).empty());
  CHECK(place.ok({"layer", "ls"}) == list);  // layers with names stay
  CHECK(has(plan, "nothing was removed"));
  place.refused({"image", "rm", "nothing"}, {"nothing"});
}

TEST_CASE(
    "layer commit --image: digests are those of the tars that diff --oci writes, changes are in "
    "the config") {
  Place const place;
  auto const base = place.config("test");
  auto const id = place.ok({"layer",
                            "commit",
                            "work",
                            "--image",
                            "me/app:1",
                            "--as",
                            "snap",
                            "--comment",
                            "why",
                            "--config-change",
                            "CMD [\"a\", \"b\"]",
                            "--config-change",
                            "ENTRYPOINT=run it",
                            "--config-change",
                            "ENV=PATH=/x=y",
                            "--config-change",
                            "env A=1",
                            "--config-change",
                            "ENV A=2",
                            "--config-change",
                            "LABEL=k=v",
                            "--config-change",
                            "USER me",
                            "--config-change",
                            "WORKDIR=/srv",
                            "--config-change",
                            "WORKDIR=sub",
                            "--config-change",
                            "EXPOSE 80 53/udp",
                            "--config-change",
                            "VOLUME=[\"/data\"]",
                            "--config-change",
                            "STOPSIGNAL=SIGINT"});
  auto const config = place.config("me/app:1");
  auto const& run = config["config"];
  CHECK(run["Cmd"] == json({"a", "b"}));
  CHECK(run["Entrypoint"] == json({"/bin/sh", "-c", "run it"}));
  CHECK(run["Labels"]["k"] == "v");
  CHECK(run["User"] == "me");
  CHECK(run["WorkingDir"] == "/srv/sub");
  CHECK(run["ExposedPorts"] == json({{"80/tcp", json::object()}, {"53/udp", json::object()}}));
  CHECK(run["Volumes"] == json({{"/data", json::object()}}));
  CHECK(run["StopSignal"] == "SIGINT");
  auto const& env = run["Env"];
  CHECK(std::count(env.begin(), env.end(), "A=2") == 1);
  CHECK(std::count(env.begin(), env.end(), "A=1") == 0);
  CHECK(std::count(env.begin(), env.end(), "PATH=/x=y") == 1);
  CHECK(config["architecture"] == base["architecture"]);

  // The image's two layers, then one, then what was committed.
  auto const& ids = config["rootfs"]["diff_ids"];
  REQUIRE(ids.size() == 4);
  CHECK(ids[0] == base["rootfs"]["diff_ids"][0]);
  CHECK(ids[1] == base["rootfs"]["diff_ids"][1]);
  std::pair<char const*, char const*> const pairs[] = {{"test", "one"}, {"one", "snap"}};
  for (std::size_t i = 0; i < 2; ++i) {
    std::ostringstream none;
    (void)place.run({"diff", "--oci", place.file("t.tar"), pairs[i].first, pairs[i].second},
                    {{"SOURCE_DATE_EPOCH", ""}});
    std::ifstream in(place.file("t.tar"), std::ios::binary);
    std::string const tar((std::istreambuf_iterator<char>(in)), {});
    CHECK(ids[2 + i] == digest_text(oci::sha256(tar)));
    CHECK(place.layer(pairs[i].second)["diff_id"] == ids[2 + i]);
    CHECK(place.layer(pairs[i].second)["diff_bytes"] == tar.size());
  }
  CHECK(id ==
        "sha256:" + digest_hex(oci::sha256(place.ok({"image", "show", "--config", "me/app:1"}))) +
            "\n");
  CHECK(config["history"].back()["comment"] == "why");
  CHECK(config["history"].size() == 4);  // a line for each layer, also of an image without history

  for (char const* layer : {"one", "snap"}) {
    auto const verified = place.ok({"verify", "--json", layer});
    CHECK(json::parse(verified.substr(0, verified.find('\n')))["diff_id"] == "same");
  }

  // The layer goes on, and what has digests already keeps them.
  CHECK(place.layer("work")["state"] == "open");
  CHECK(place.layer("work")["parent"] == "snap");
  place.ok({"layer", "commit", "snap", "--image", "me/app:2"});
  CHECK(place.config("me/app:2")["rootfs"]["diff_ids"] == ids);
  place.ok({"layer", "create", "scratch"});
  place.ok({"layer", "commit", "scratch", "--image", "scratch"});
  CHECK(place.config("scratch")["os"] == "linux");
  CHECK(place.layer("scratch:latest")["name"].get<std::string>().size() == 12);
  CHECK(place.layer("scratch")["state"] == "open");

  place.refused({"layer", "commit", "work"}, {"--as FROZEN or --image"}, cli::kUsage);
  place.refused({"layer", "commit", "work", "--as", "x", "--config-change", "USER=a"}, {"--image"},
                cli::kUsage);
  for (char const* change :
       {"NOTHING=1", "ENV=1", "LABEL==", "CMD=[1]", "EXPOSE=http", "VOLUME="}) {
    CAPTURE(std::string(change));
    place.refused({"layer", "commit", "work", "--image", "bad", "--config-change", change},
                  {"config change"}, cli::kUsage);
  }
  CHECK(place.layer("work")["parent"] == "snap");  // none of them froze anything
  place.refused({"layer", "commit", "snap", "--as", "x"}, {"read-only", "--parent snap"});
}

TEST_CASE(
    "layer commit --image: one operation in the log, which undo takes back as a whole, and says so "
    "first") {
  Place const place;
  auto const before = lines_of(place.ok({"log", "--json"})).size();
  auto const id = place.ok({"layer", "commit", "work", "--as", "snap", "--image", "me/app:1"});
  place.ok({"image", "tag", "test", "more:2"});
  auto log = lines_of(place.ok({"log", "--json"}));
  CHECK(log.size() == before + 2);
  CHECK(json::parse(log[1])["before"] == "layer commit work --as snap --image me/app:1");
  place.ok({"image", "rm", "test:latest"});
  place.ok({"image", "tag", "more:2", "me/app:1"});  // which moves

  auto const plan = [&place](std::vector<std::string> args) {
    std::map<std::string, std::string> out;
    args.insert(args.begin(), {"undo", "-n", "--json"});
    for (auto const& line : lines_of(place.ok(args))) {
      auto const row = json::parse(line);
      if (row.contains("image"))
        out["image " + (row["image"].is_null() ? row["id"] : row["image"]).get<std::string>()] =
            row["becomes"];
      else if (!row["layer"].is_null())
        out["layer " + row["layer"].get<std::string>()] = row["becomes"];
    }
    return out;
  };
  using Plan = std::map<std::string, std::string>;
  CHECK(plan({}) == Plan{{"image me/app:1", "as it was"}});
  CHECK(plan({"--steps", "2"}) ==
        Plan{{"image me/app:1", "as it was"}, {"image test:latest", "back"}});
  CHECK(plan({"--steps", "3"}) == Plan{{"image me/app:1", "as it was"},
                                       {"image more:2", "gone"},
                                       {"image test:latest", "back"}});
  auto const all = plan({"--steps", "4"});
  CHECK(all.at("image me/app:1") == "gone");
  CHECK(all.at("image " + id.substr(0, id.size() - 1)) == "gone");  // it has no name by now
  CHECK(all.at("layer work") == "gone");                            // under its new id
  auto const words = place.ok({"undo", "-n", "--steps", "2"});
  CHECK(has(words, "image  test:latest"));
  CHECK(has(words, "nothing was done"));

  place.ok({"undo", "--yes", "--steps", "4"});
  CHECK(place.layer("work")["parent"] == "one");
  CHECK(place.layer("work")["state"] == "open");
  place.refused({"layer", "show", "snap"}, {"no layer"});
  place.refused({"image", "show", "me/app:1"}, {"me/app:1"});
}

TEST_CASE(
    "layer commit --image: two layers with the same content on the same parent are one chain") {
  Place const place;
  place.ok({"layer", "create", "twin", "--parent", "one"});
  place.ok({"layer", "commit", "work", "--image", "a", "--as", "first"});
  place.ok({"layer", "commit", "twin", "--image", "b", "--as", "second"});
  CHECK(place.config("a")["rootfs"] == place.config("b")["rootfs"]);
  CHECK(place.layer("second")["diff_id"].is_null());
  CHECK_FALSE(place.layer("first")["diff_id"].is_null());
}

TEST_CASE("layer squash and apply: the tree of one layer on another, or on nothing") {
  Place const place;
  place.ok({"layer", "commit", "work", "--as", "two"});
  place.ok({"layer", "squash", "two", "--onto", "test", "flat"});
  CHECK(place.run({"diff", "two", "flat"}).code == cli::kSame);
  CHECK(place.layer("flat")["parent"] == place.layer("test")["name"]);
  CHECK(place.layer("flat")["state"] == "frozen");
  place.ok({"layer", "squash", "two", "whole"});
  CHECK(place.run({"diff", "two", "whole"}).code == cli::kSame);
  CHECK(place.layer("whole")["parent"].is_null());
  CHECK(place.layer("whole")["inherited_bytes"] == 0);
  auto const frozen = place.run({"layer", "apply", "work", place.file("one.tar"), "again"});
  CHECK(frozen.code == 0);
  CHECK(has(frozen.err, "work was writable"));
  place.refused({"layer", "apply", "one", place.file("none.tar"), "x"}, {"none.tar"});
  place.refused({"layer", "apply", "one", place.file("store"), "x"}, {"store"});
  test::write_file(place.file("empty"), "");
  place.refused({"layer", "apply", "one", place.file("empty"), "x"}, {"empty"});
  place.refused({"layer", "show", "x"}, {"no layer"});
}

TEST_CASE(
    "layer apply: whiteouts, opaque directories, hard links and attributes make the tree that they "
    "say") {
  Place const place;
  auto const apply = [&place](test::TarBuilder& tar, std::string const& onto,
                              std::string const& name) {
    test::write_file(place.file(name + ".tar"), tar.end().text());
    place.ok({"layer", "apply", onto, place.file(name + ".tar"), name});
    return place.digest(name);
  };
  place.ok({"layer", "create", "nothing"});
  auto const base = [] {
    test::TarBuilder tar;
    tar.directory("d")
        .file("d/old", "old")
        .file("d/sub", "gone as well")
        .directory("keep")
        .file("keep/f", std::string(9000, 'f'))
        .file("keep/g", "g");
    return tar;
  };
  auto below = base();
  apply(below, "nothing", "below");
  test::TarBuilder change;
  change.directory("d")
      .file("d/.wh..wh..opq", "")
      .file("d/new", "new");  // nothing of the old one stays
  change.file("keep/.wh.g", "")
      .hardlink("keep/again", "keep/f");  // the target is of the layer below
  change.pax({{"SCHILY.xattr.user.a", "value"}})
      .file("x", "with an attribute")
      .symlink("to", "keep/again");
  auto const changed = apply(change, "below", "changed");
  test::TarBuilder whole;
  whole.directory("d")
      .file("d/new", "new")
      .directory("keep")
      .file("keep/f", std::string(9000, 'f'))
      .hardlink("keep/again", "keep/f");
  whole.pax({{"SCHILY.xattr.user.a", "value"}})
      .file("x", "with an attribute")
      .symlink("to", "keep/again");
  CHECK(apply(whole, "nothing", "whole") == changed);
  // And what a diff writes leads from any of them to any other.
  for (auto const& [from, to] : {std::pair{"below", "changed"},
                                 {"changed", "below"},
                                 {"nothing", "whole"},
                                 {"whole", "test"}}) {
    auto const name = std::string(from) + "-" + to;
    CHECK(place.run({"diff", "--oci", place.file("c.tar"), from, to}, {{"SOURCE_DATE_EPOCH", ""}})
              .code == cli::kDiffer);
    place.ok({"layer", "apply", from, place.file("c.tar"), name});
    CHECK(place.digest(name) == place.digest(to));
  }
}

TEST_CASE(
    "layer show: the digest of a tree if it is recorded or asked for; equal trees have the same") {
  Place const place;
  CHECK(place.layer("work")["digest"].is_null());
  CHECK(has(place.ok({"layer", "show", "work"}), "digest    -\n"));
  auto const digest = place.digest("work");
  CHECK(digest.starts_with("sha256:"));
  CHECK(place.digest("one") == digest);
  CHECK(place.digest("test") != digest);
  CHECK(has(place.ok({"layer", "show", "--digest", "work"}), digest));
  place.ok({"verify", "-q", "--digest", "one"});
  CHECK(place.layer("one")["digest"] == digest);
}

TEST_CASE("log: squash and apply are told as what they are") {
  Place const place;
  place.ok({"layer", "squash", "one", "flat"});
  place.ok({"layer", "apply", "flat", place.file("one.tar"), "again"});
  auto const log = place.ok({"log"});
  CHECK(has(log, "layer squash flat\n"));
  CHECK(has(log, "layer apply again\n"));
  CHECK(has(log, "import test:latest\n"));
}

TEST_CASE("layer history: the config's steps, and what was made here") {
  Place const place;
  place.ok({"layer", "commit", "work", "--image", "me/app:1", "--as", "snap"});
  auto const steps = lines_of(place.ok({"layer", "history", "--json", "work"}));
  REQUIRE(steps.size() >= 3);
  CHECK(json::parse(steps[0])["layer"] == "work");
  CHECK(json::parse(steps[0])["created_by"].is_null());
  CHECK(json::parse(steps[1])["layer"] == "snap");
  CHECK(json::parse(steps[1])["created_by"] == "lcfs layer commit work");
  CHECK(has(place.ok({"layer", "history", "snap"}), "lcfs layer commit work"));
  CHECK(lines_of(place.ok({"layer", "history", "--json", "snap"})).size() == steps.size() - 1);
}

TEST_CASE("layer tree: a picture in the characters and colours that are wanted") {
  Place const place;
  place.ok({"layer", "create", "side", "--parent", "one"});
  auto const plain = place.ok({"layer", "tree"});
  CHECK(has(plain, "      |- work  0 B  writable\n"));
  CHECK(has(plain, "      `- side  0 B  writable\n"));
  CHECK(has(plain, "[test:latest]"));
  CHECK(has(place.run({"layer", "tree"}, {{"LANG", "C.UTF-8"}}).out,
            "      ├─ work  0 B  writable\n"));
  CHECK_FALSE(has(plain, "\x1b"));
  CHECK(has(place.ok({"layer", "tree", "--color", "always"}), "\x1b[32mwork\x1b[0m"));
  place.refused({"layer", "tree", "--color", "maybe"}, {"--color"}, cli::kUsage);
}

TEST_CASE("completion: commands, options, their words, and the names of the store") {
  Place const place;
  auto const words = [&place](std::vector<std::string> typed) {
    typed.insert(typed.begin(), "__complete");
    std::vector<std::string> out;
    for (auto const& line : lines_of(place.ok(std::move(typed))))
      out.push_back(line.substr(0, line.find('\t')));
    return out;
  };
  using Words = std::vector<std::string>;
  CHECK(words({"im"}) == Words{"import", "image"});
  CHECK(words({"layer", "re"}) == Words{"rename"});
  CHECK(words({"layer", "tree", "--co"}) == Words{"--color"});
  CHECK(words({"layer", "tree", "--color", "a"}) == Words{"auto", "always"});
  CHECK(words({"layer", "tree", "--color=n"}) == Words{"--color=never"});
  CHECK(words({"layer", "rm", "w"}) == Words{"work"});
  CHECK(words({"layer", "rm", "one", "w"}) == Words{"work"});  // and more of them
  CHECK(words({"diff", "one", "wo"}) == Words{"work"});
  CHECK(words({"layer", "create", "--parent", "te"}) == Words{"test:latest"});
  CHECK(words({"layer", "create", "w"}).empty());  // a new name
  CHECK(words({"image", "rm", ""}) == Words{"test:latest"});
  CHECK(words({"image", "tag", "test", ""}).empty());
  CHECK(words({"ls", "--", "wo"}) == Words{"work"});
  CHECK(words({"completion", ""}) == Words{"bash", "zsh", "fish"});
  CHECK(words({"nonsense", "x"}).empty());
  CHECK(words({"layer", "show", "--store", "/none", ""}).empty());
  CHECK(words({""}).size() > 15);
  for (char const* shell : {"bash", "zsh", "fish"})
    CHECK(has(place.ok({"completion", shell}), "__complete"));
  CHECK(place.run({"completion", "tcsh"}).code == cli::kUsage);
}
