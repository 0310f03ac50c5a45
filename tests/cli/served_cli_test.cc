// SPDX-License-Identifier: Apache-2.0
// One spelling, mounted or not: every command on a store that a server has, beside the same on a
// store that nobody has. The server here is a control socket over an open Store; what mounting adds
// to it is no concern of these commands.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/fd.h"
#include "cli/fd_stream.h"
#include "cli/run.h"
#include "cli/serve.h"
#include "engine/store.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"

using namespace lcfs;

namespace {

struct Answer {
  int code = 0;
  std::string out, err;
};

std::string contents(int fd) {
  std::string text;
  std::array<char, 65536> buffer{};
  for (off_t at = 0;;) {
    ssize_t const n = pread(fd, buffer.data(), buffer.size(), at);
    if (n <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    at += n;
  }
}

// A run of the program with descriptors, as a shell would make it.
Answer run_with(std::vector<std::string> args, std::map<std::string, std::string> env, int in = -1,
                int out = -1) {
  Fd const null = open_fd("/dev/null", O_RDONLY), out_file{memfd_create("out", MFD_CLOEXEC)},
           err_file{memfd_create("err", MFD_CLOEXEC)};
  cli::FdStream out_stream(out < 0 ? out_file.get() : out, nullptr),
      err_stream(err_file.get(), nullptr);
  cli::Io io{out_stream, err_stream, false,
             [env = std::move(env)](char const* name) -> std::optional<std::string> {
               auto const found = env.find(name);
               return found == env.end() ? std::nullopt : std::optional{found->second};
             }};
  io.in_fd = in < 0 ? null.get() : in;
  io.out_fd = out < 0 ? out_file.get() : out;
  io.err_fd = err_file.get();
  args.insert(args.begin(), "lcfs");
  int const code = cli::run(std::move(args), io);
  err_stream.flush();
  return {code, contents(out_file.get()), contents(err_file.get())};
}

// A directory with a store that has an image and a layer on it, called "store" there, and commands
// that run in it.
class Place {
 public:
  Place() {
    test::TestImage image;
    image.layers = {
        test::gzip_layer(
            test::TarBuilder().directory("etc").file("etc/motd", "hello\n").end().text()),
        test::plain_layer(test::TarBuilder()
                              .file("big", std::string(300'000, 'b'))
                              .symlink("to", "etc/motd")
                              .end()
                              .text())};
    test::write_file(dir_.file("image.tar"), test::tar_of(test::docker_members({image})));
    image.name = "other";
    image.layers[1] = test::plain_layer(test::TarBuilder().file("new", "n").end().text());
    test::write_file(dir_.file("other.tar"), test::tar_of(test::docker_members({image})));
    REQUIRE(
        run({"mkfs", "-q", "--size", "64M", "-U", "12345678-1234-5678-9abc-def012345678", "store"})
            .code == 0);
    REQUIRE(run({"import", "-q", "image.tar"}).code == 0);
    REQUIRE(run({"layer", "create", "work", "--parent", "test"}).code == 0);
  }
  ~Place() { CHECK(run({"fsck", "-n"}).code == 0); }
  Place(Place const&) = delete;
  Place& operator=(Place const&) = delete;

  [[nodiscard]] std::string file(std::string const& name) const { return dir_.file(name); }
  Answer run(std::vector<std::string> args, int in = -1, int out = -1) const {
    auto const before = std::filesystem::current_path();
    std::filesystem::current_path(dir_.path());
    auto answer = run_with(std::move(args),
                           {{"LCFS_STORE", "store"},
                            {"LCFS_RUNTIME_DIR", file("run")},
                            {"SOURCE_DATE_EPOCH", "1700000000"}},
                           in, out);
    std::filesystem::current_path(before);
    return answer;
  }
  // The store of another place, byte for byte.
  void copy_from(Place const& other) const {
    std::filesystem::copy_file(other.file("store"), file("store"),
                               std::filesystem::copy_options::overwrite_existing);
  }

 private:
  test::TempDir dir_;
};

// Has the place's store open, and serves commands on it.
class Server {
 public:
  explicit Server(Place const& place) {
    auto device = open_device(place.file("store"), Access::kReadWrite);
    REQUIRE_MESSAGE(device, (device ? "" : device.error().text()));
    auto store = Store::open(*std::move(device), {});
    REQUIRE(store);
    store_ = *std::move(store);
    auto const identity = mount::store_identity(place.file("store"));
    REQUIRE(identity);
    serving_ = std::make_unique<mount::Serving>(mount::Serving{*store_, place.file("store"), {}});
    serving_->stats = [](mount::StatsFormat format, std::optional<LayerId> layer,
                         bool clear) -> Result<std::string> {
      return fmt::format("format {} layer {} clear {}", static_cast<int>(format), layer.value_or(0),
                         clear);
    };
    auto server = mount::ControlServer::start(
        {.socket =
             mount::control_socket_path(*identity, [&](char const*) { return place.file("run"); })},
        [this, id = *identity](mount::ControlRequest& request) {
          return cli::run_for_client(request, *serving_, id);
        });
    REQUIRE_MESSAGE(server, (server ? "" : server.error().text()));
    server_ = *std::move(server);
  }
  ~Server() {
    server_->stop();
    CHECK(store_->close());
  }
  Server(Server const&) = delete;
  Server& operator=(Server const&) = delete;
  Store& store() { return *store_; }
  [[nodiscard]] mount::ControlServer::Counts counts() const { return server_->counts(); }

 private:
  std::unique_ptr<Store> store_;
  std::unique_ptr<mount::Serving> serving_;
  std::unique_ptr<mount::ControlServer> server_;
};

bool has(std::string const& text, std::string const& word) {
  return text.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("served: queries say the same as on a store that nobody has") {
  Place const free_place, place;
  place.copy_from(free_place);
  Server server(place);
  std::uint64_t commands = 0;
  for (std::vector<std::string> const& args : {std::vector<std::string>{"image", "ls"},
                                               {"image", "ls", "--json"},
                                               {"image", "show", "test"},
                                               {"image", "show", "--config", "test"},
                                               {"image", "show", "nothing"},
                                               {"layer", "ls"},
                                               {"layer", "ls", "--json"},
                                               {"layer", "show", "work"},
                                               {"layer", "show", "--json", "test"},
                                               {"layer", "tree"},
                                               {"layer", "tree", "--color", "always"},
                                               {"layer", "history", "work"},
                                               {"layer", "history", "--json", "test"},
                                               {"layer", "show", "tets"},
                                               {"image", "rm", "-n", "test"},
                                               {"image", "prune", "-n"},
                                               {"diff", "--patch", "test", "work"},
                                               {"__complete", "layer", "rm", ""},
                                               {"layer", "rm", "--dry-run", "work"},
                                               {"layer", "rm", "-n", "--json", "work", "test"},
                                               {"ls", "-lR", "test"},
                                               {"ls", "--json", "work", "/etc"},
                                               {"ls", "test", "/none"},
                                               {"cat", "work", "/to", "big"},
                                               {"cat", "work", "/etc"},
                                               {"stat", "--runs", "--json", "test", "/big"},
                                               {"verify", "test"},
                                               {"verify", "--json"},
                                               {"df"},
                                               {"df", "--json"},
                                               {"fsck", "-n"},
                                               {"fsck", "-n", "--json", "--data", "store"}}) {
    CAPTURE(fmt::format("{}", fmt::join(args, " ")));
    auto const expected = free_place.run(args);
    auto const answer = place.run(args);
    CHECK(answer.code == expected.code);
    CHECK(answer.err == expected.err);
    // The generation may be another: a server's fsck begins with a checkpoint.
    if (args[0] != "fsck" && args[0] != "df") CHECK(answer.out == expected.out);
    CHECK_FALSE((answer.out.empty() && answer.err.empty() && args[0] != "diff"));
    CHECK(server.counts().commands == ++commands);
  }
  CHECK(has(place.run({"df"}).out, "the sum is right"));
  CHECK(has(place.run({"fsck", "-n"}).out, "store: clean"));
}

TEST_CASE("served: changes are made, and are durable when the command ends") {
  Place const place;
  {
    Server server(place);
    CHECK(place.run({"layer", "create", "a", "--parent", "test", "--quota", "10M"}).code == 0);
    CHECK(place.run({"layer", "create", "a"}).code == 1);
    CHECK(place.run({"layer", "create", "bad/name"}).code == cli::kUsage);
    CHECK(place.run({"layer", "quota", "a", "20M"}).code == 0);
    CHECK(has(place.run({"layer", "show", "a"}).out, "quota     20.0 MiB"));
    CHECK(place.run({"layer", "quota", "a", "none"}).code == 0);
    CHECK(has(place.run({"layer", "show", "--json", "a"}).out, "\"quota_bytes\":null"));
    CHECK(place.run({"layer", "quota", "a", "0"}).code == cli::kUsage);
    CHECK(place.run({"layer", "rename", "a", "b"}).code == 0);
    CHECK(place.run({"layer", "rename", "a", "c"}).code == 1);
    CHECK(place.run({"layer", "commit", "b", "--as", "b1"}).code == 0);
    CHECK(has(place.run({"layer", "show", "b"}).out, "parent    b1"));
    CHECK(has(place.run({"layer", "show", "b1"}).out, "state     frozen"));
    CHECK(place.run({"layer", "freeze", "work"}).code == 0);
    CHECK(place.run({"layer", "rm", "b1"}).code == 1);
    CHECK(place.run({"layer", "rm", "--lazy", "b1"}).code == 0);
    CHECK(has(place.run({"layer", "show", "b"}).out, "parent    @"));
    CHECK(place.run({"layer", "rm", "b"}).code == 0);
    CHECK(place.run({"diff", "--oci", "change.tar", "test", "work"}).code == cli::kSame);
    CHECK(place.run({"layer", "apply", "test", "change.tar", "applied"}).code == 0);
    CHECK(place.run({"layer", "squash", "work", "flat"}).code == 0);
    CHECK(place.run({"diff", "work", "flat"}).code == cli::kSame);
    CHECK(place.run({"layer", "commit", "work", "--image", "made:1", "--config-change", "USER=me"})
              .code == 0);
    CHECK(has(place.run({"image", "show", "--config", "made:1"}).out, "\"User\":\"me\""));
    CHECK(place.run({"image", "tag", "made:1", "made:2"}).code == 0);
    CHECK(place.run({"image", "rm", "made:1", "made:2"}).code == 0);
    CHECK(place.run({"layer", "rm", "applied", "flat"}).code == 0);
    CHECK(place.run({"sync"}).code == 0);
    CHECK(place.run({"image", "rm", "nothing"}).code == 1);
    auto const made = place.run({"import", "other.tar"});
    CHECK(made.code == 0);
    CHECK(has(made.out, "2 layers, 1 new"));
    CHECK(place.run({"image", "rm", "other"}).code == 0);
    auto const grown = place.run({"grow", "--json", "80M"});
    CHECK(grown.code == 0);
    CHECK(has(grown.out, "\"size\":83886080"));
    CHECK(server.counts().commands != 0);
  }
  auto const list = place.run({"layer", "ls", "--json"}).out;
  CHECK(has(list, "\"name\":\"work\""));
  CHECK_FALSE(has(list, "\"name\":\"b\""));
}

TEST_CASE(
    "served: files are found from the client's directory, and standard input is the client's") {
  Place const place;
  Server server(place);
  CHECK(place.run({"extract", "-q", "work", "out"}).code == 0);
  CHECK(std::filesystem::file_size(place.file("out/big")) == 300'000);
  CHECK(has(place.run({"extract", "work", "out"}).err, "not empty"));
  CHECK(has(place.run({"import", "none.tar"}).err, "none.tar"));
  Fd const archive = open_fd(place.file("other.tar"), O_RDONLY);
  auto const imported = place.run({"import", "--json", "-"}, archive.get());
  CHECK(imported.code == 0);
  CHECK(has(imported.out, "\"new\":true"));
  CHECK(place.run({"cat", "other", "/new"}).out == "n");
}

TEST_CASE("served: an image from a pipe") {
  Place const place;
  Server server(place);
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  Fd in{ends[0]}, to{ends[1]};
  std::thread writer([&place, to = std::move(to)] {
    std::ifstream file(place.file("other.tar"), std::ios::binary);
    std::array<char, 1000> part{};
    while (file.read(part.data(), part.size()), file.gcount() > 0)
      if (write(to.get(), part.data(), static_cast<std::size_t>(file.gcount())) < 0) break;
  });
  CHECK(place.run({"import", "-q", "-"}, in.get()).code == 0);
  writer.join();
  CHECK(place.run({"cat", "other", "/new"}).out == "n");
}

TEST_CASE("served: a client that goes away in the middle of an import leaves nothing behind") {
  Place const place;
  Server server(place);
  auto const before = place.run({"layer", "ls", "--json"}).out;
  auto const space = server.store().space();
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  Fd const in{ends[0]}, to{ends[1]};
  REQUIRE(write(to.get(), "x", 1) == 1);  // and no more: the import waits for the rest
  std::atomic<bool> stop{false};
  auto const identity = mount::store_identity(place.file("store"));
  std::optional<int> code;
  std::thread client([&] {
    Fd const err{memfd_create("err", MFD_CLOEXEC)};
    auto const done = mount::control_call(
        {mount::control_socket_path(*identity, [&](char const*) { return place.file("run"); })},
        geteuid(), {{"lcfs", "import", "-"}, {{"LCFS_STORE", place.file("store")}}, 022},
        {in.get(), err.get(), err.get()}, &stop);
    if (done) code = *done;
    CHECK(has(contents(err.get()), "interrupted"));
  });
  while (server.counts().running == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  stop = true;
  client.join();
  CHECK(code == cli::kFailed);
  CHECK(place.run({"layer", "ls", "--json"}).out == before);
  CHECK(server.store().space().layers == space.layers);
}

TEST_CASE("served: output that nobody reads") {
  Place const place;
  Server server(place);
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  Fd reader{ends[0]};
  Fd const out{ends[1]};
  std::thread client([&] {
    auto const answer = place.run({"cat", "work", "/big"}, -1, out.get());
    CHECK(answer.code == cli::kPipe);
    CHECK(answer.err.empty());
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(server.counts().running == 1);  // it waits for the reader
  reader = Fd{};
  client.join();
  Fd const full = open_fd("/dev/full", O_WRONLY);
  auto const answer = place.run({"df"}, -1, full.get());
  CHECK(answer.code == cli::kFailed);
  CHECK(answer.err == "lcfs: standard output: cannot write\n");
}

TEST_CASE("served: what is not for a store in use is refused") {
  Place const place;
  Server server(place);
  auto const mkfs = place.run({"mkfs", "-f", "store"});
  CHECK(mkfs.code == 1);
  CHECK(has(mkfs.err, fmt::format("in use by pid {}", getpid())));
  CHECK(place.run({"umount", "store"}).code == 1);
  CHECK(server.counts().commands == 0);
  // fsck that would write, as the server sees it; nothing is mounted here that the client could
  // see.
  CHECK(place.run({"fsck", "-y"}).code == cli::kFsckOperation);
  CHECK(has(place.run({"fsck", "-p"}).err, fmt::format("in use by pid {}", getpid())));
}

TEST_CASE("served: statistics are the server's, else what the store can tell") {
  Place const place;
  CHECK(has(place.run({"stats", "--json"}).out, "\"mounted\":false"));
  CHECK(has(place.run({"stats", "--prometheus"}).out, "\nlcfs_device_reads "));
  CHECK(has(place.run({"stats", "work"}).out, "own_bytes"));
  CHECK(
      has(place.run({"stats", "--prometheus", "work"}).out, "lcfs_layer_inodes{layer=\"work\"} "));
  Server server(place);
  CHECK(place.run({"stats"}).out == "format 0 layer 0 clear false\n");
  CHECK(place.run({"stats", "--json", "--clear"}).out == "format 1 layer 0 clear true\n");
  auto const work = server.store().resolve_layer("work");
  REQUIRE(work);
  CHECK(place.run({"stats", "--prometheus", "work"}).out ==
        fmt::format("format 2 layer {} clear false\n", *work));
  CHECK(place.run({"stats", "nothing"}).code == 1);
}

TEST_CASE("served: many clients at once") {
  Place const place;
  Server server(place);
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i)
    clients.emplace_back([&place, i] {
      std::map<std::string, std::string> const env{{"LCFS_STORE", place.file("store")},
                                                   {"LCFS_RUNTIME_DIR", place.file("run")}};
      auto const name = fmt::format("n{}", i);
      for (int round = 0; round < 5; ++round) {
        CHECK(run_with({"layer", "create", name, "--parent", "test"}, env).code == 0);
        CHECK(run_with({"ls", name}, env).out == "big\netc\nto\n");
        CHECK(run_with({"layer", "rm", name}, env).code == 0);
      }
    });
  for (auto& client : clients) client.join();
}

TEST_CASE("mount.lcfs: mount(8)'s codes for what can't be mounted") {
  Place const place;
  auto const helper = [](std::vector<std::string> args) {
    args.insert(args.begin(), "/sbin/mount.lcfs");
    std::ostringstream out, err;
    int const code = cli::run(args, cli::Io{out, err});
    CHECK((code == 0) == err.str().empty());
    return code;
  };
  CHECK(helper({}) == cli::kMountUsage);
  CHECK(helper({"store"}) == cli::kMountUsage);
  CHECK(helper({"store", "/mnt", "-o"}) == cli::kMountUsage);
  CHECK(helper({"store", "/mnt", "-x"}) == cli::kMountUsage);
  CHECK(helper({"store", "/mnt", "-o", "nonsense"}) == cli::kMountUsage);
  CHECK(helper({"store", "/mnt", "-sfnv", "-o", "nonsense,ro", "-t", "lcfs"}) ==
        cli::kMountOk);  // -f: as if
  CHECK(helper({place.file("none"), "/mnt"}) == cli::kMountFailed);
  CHECK(helper({"store", place.file(""), "-o", "remount,ro"}) == cli::kMountFailed);
  CHECK(place.run({"mount", "-o", "nonsense", "store", "dir"}).code == cli::kUsage);
  CHECK(place.run({"mount", "none", "dir"}).code == cli::kFailed);
  CHECK(place.run({"umount", "run/none"}).code == cli::kFailed);
  CHECK(has(place.run({"umount", "."}).err, "no lcfs store is mounted here"));
}
