// SPDX-License-Identifier: Apache-2.0
// The control socket: what it takes, what it refuses, and that nothing a client does costs more
// than its connection.
#include "mount/control.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "mount/control_socket.h"
#include "mount/control_wire.h"
#include "tests/support/support.h"

using namespace lcfs;
using lcfs::test::bytes_of;
using namespace lcfs::mount;

namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] auto const& fd : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

template <class Done>
bool comes_true(Done const& done) {
  for (int i = 0; i < 1000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

ControlCommand small_command() { return {{"lcfs", "df"}, {{"LCFS_STORE", "/s"}}, 027}; }

std::span<std::byte const> payload_of(std::string const& message) {
  return bytes_of(message).subspan(kControlHeader);
}

void set_u32(std::string& message, std::size_t at, std::uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) message[at + i] = static_cast<char>(value >> 8 * i & 0xff);
}

// A server of our own process, in a directory of its own.
class Served {
 public:
  explicit Served(ControlServer::Runner run, ControlServerOptions options = {}) {
    options.socket = socket();
    auto started = ControlServer::start(std::move(options), std::move(run));
    REQUIRE_MESSAGE(started, (started ? "" : started.error().text()));
    server_ = *std::move(started);
  }
  [[nodiscard]] std::string socket() const { return dir_.file("run/x.sock"); }
  ControlServer& operator*() { return *server_; }
  ControlServer* operator->() { return server_.get(); }
  void end() { server_.reset(); }
  Result<std::optional<int>> call(ControlCommand const& command,
                                  ControlDescriptors descriptors = {},
                                  std::atomic<bool> const* stop = nullptr) const {
    return control_call({socket()}, geteuid(), command, descriptors, stop);
  }

 private:
  test::TempDir dir_;
  std::unique_ptr<ControlServer> server_;
};

// A client that sends what it likes.
class Raw {
 public:
  explicit Raw(std::string const& path)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    auto const address = socket_address(path);
    REQUIRE(address);
    REQUIRE(connect(socket_.get(), address->get(), sizeof address->address) == 0);
  }
  void send(std::string_view bytes, std::size_t descriptors = 0) const {
    Fd const null = open_fd("/", O_PATH | O_DIRECTORY);
    std::vector<int> const fds(descriptors, null.get());
    (void)send_all(socket_.get(), bytes, fds, soon());
  }
  void end() const { shutdown(socket_.get(), SHUT_WR); }
  // Nothing: the server closed without an answer.
  [[nodiscard]] std::optional<ControlAnswer> answer() const {
    Incoming none;
    std::array<std::byte, kControlHeader> head{};
    if (receive_all(socket_.get(), head, none, soon()) != Received::kAll) return std::nullopt;
    auto const known = decode_head(head);
    REQUIRE(known);
    std::vector<std::byte> payload(known->length);
    REQUIRE(receive_all(socket_.get(), payload, none, soon()) == Received::kAll);
    auto answer = decode_answer(payload);
    REQUIRE(answer);
    return *std::move(answer);
  }

 private:
  static ControlClock::time_point soon() { return ControlClock::now() + std::chrono::seconds(20); }
  Fd socket_;
};

}  // namespace

TEST_CASE("control message: there and back") {
  ControlCommand command{
      {"lcfs", "", "a b", "\xff\n"}, {{"NO_COLOR", ""}, {"TERM", "xterm"}}, 0177};
  auto const message = encode_command(command);
  REQUIRE(message);
  auto const head = decode_head(bytes_of(*message).first<kControlHeader>());
  REQUIRE(head);
  CHECK(head->version == kControlVersion);
  CHECK(head->length == message->size() - kControlHeader);
  auto const back = decode_command(payload_of(*message));
  REQUIRE(back);
  CHECK(back->args == command.args);
  CHECK(back->variables == command.variables);
  CHECK(back->umask == command.umask);
  for (int const code : {0, 1, -1, 141}) {
    auto const sent = encode_answer({code, ControlRefusal::kTooMany, "words"});
    auto const answer = decode_answer(payload_of(sent));
    REQUIRE(answer);
    CHECK(answer->exit_code == code);
    CHECK(answer->refusal == ControlRefusal::kTooMany);
    CHECK(answer->text == "words");
  }
}

TEST_CASE("control message: cut short at any byte it is an error, and so is a byte more") {
  auto const message = *encode_command(small_command());
  auto const payload = payload_of(message);
  for (std::size_t n = 0; n < payload.size(); ++n) CHECK_FALSE(decode_command(payload.first(n)));
  auto longer = message + "x";
  CHECK_FALSE(decode_command(payload_of(longer)));
  auto const answer = encode_answer({1, ControlRefusal::kNone, "text"});
  for (std::size_t n = 0; n < answer.size() - kControlHeader; ++n)
    CHECK_FALSE(decode_answer(payload_of(answer).first(n)));
}

TEST_CASE("control message: every field too large is refused by its name") {
  struct Row {
    std::size_t at;
    std::uint32_t value;
    char const* word;
  };
  auto const good = *encode_command(small_command());
  for (auto const& row : {Row{0, 01000, "umask"},
                          {0, ~0u, "umask"},
                          {4, 0, "argc"},
                          {4, kControlArgs + 1, "argc"},
                          {4, ~0u, "argc"},
                          {4, 3, "cut short"},
                          {8, kControlVariables + 1, "envc"},
                          {8, ~0u, "envc"},
                          {8, 0, "left over"},
                          {12, 5, ""},
                          {12, ~0u, "argument"},
                          {20, 0x7fffffff, "argument"}}) {
    CAPTURE(row.at);
    CAPTURE(row.value);
    auto bad = good;
    set_u32(bad, kControlHeader + row.at, row.value);
    auto const parsed = decode_command(payload_of(bad));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().message.find(row.word) != std::string::npos);
  }
  auto zero = good;
  zero[kControlHeader + 16] = '\0';
  CHECK(decode_command(payload_of(zero)).error().message.find("zero byte") != std::string::npos);
  CHECK_FALSE(encode_command({{}, {}, 0}));
  CHECK_FALSE(encode_command({std::vector<std::string>(kControlArgs + 1), {}, 0}));
  CHECK_FALSE(encode_command({{"lcfs", std::string(kControlPayload, 'x')}, {}, 0}));
  CHECK(encode_command({{"lcfs", std::string(kControlPayload - 100, 'x')}, {}, 0}));

  auto const head_with = [&](std::size_t at, std::uint32_t value) {
    auto bad = good;
    set_u32(bad, at, value);
    return decode_head(bytes_of(bad).first<kControlHeader>());
  };
  CHECK(head_with(0, 0).error().message.find("magic") != std::string::npos);
  CHECK(head_with(8, 2).error().code == Errc::kUnsupported);
  CHECK(head_with(8, 2).error().message.find("supports 1") != std::string::npos);
  CHECK(head_with(12, kControlPayload + 1).error().message.find("length") != std::string::npos);
}

TEST_CASE("control message: random bytes never do harm") {
  std::mt19937 random(1);
  auto const good = *encode_command(small_command());
  for (int i = 0; i < 20'000; ++i) {
    std::string noise =
        i % 2 == 0 ? good.substr(kControlHeader) : std::string(random() % 200, '\0');
    for (auto changes = random() % 8; changes-- > 0 && !noise.empty();)
      noise[random() % noise.size()] = static_cast<char>(random());
    if (auto const parsed = decode_command(bytes_of(noise))) {
      CHECK(parsed->args.size() <= kControlArgs);
      CHECK_FALSE(parsed->args.empty());
    }
    (void)decode_answer(bytes_of(noise)).ok();
  }
}

TEST_CASE("control server: runs a command in the client's place") {
  ControlRequest const* seen = nullptr;
  std::string where;
  mode_t mask = 0;
  auto const here = std::filesystem::current_path();
  mode_t const ours = umask(0);
  umask(ours);
  Served served([&](ControlRequest& request) {
    seen = &request;
    where = std::filesystem::current_path();
    mask = umask(0);
    CHECK(request.command.args == std::vector<std::string>{"lcfs", "x"});
    CHECK(request.variable("A") == "1");
    CHECK_FALSE(request.variable("B"));
    CHECK(request.pid == getpid());
    CHECK(request.uid == geteuid());
    char letter = 0;
    CHECK(read(request.in.get(), &letter, 1) == 1);
    CHECK(write(request.out.get(), &letter, 1) == 1);
    CHECK(write(request.err.get(), "e", 1) == 1);
    return 7;
  });
  struct stat st {};
  REQUIRE(stat(served.socket().c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0600);
  REQUIRE(stat((served.socket() + "/..").substr(0, served.socket().rfind('/')).c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0700);

  test::TempDir dir;
  std::ofstream(dir.file("in")) << "i";
  Fd const in = open_fd(dir.file("in"), O_RDONLY),
           out = open_fd(dir.file("out"), O_WRONLY | O_CREAT, 0600),
           err = open_fd(dir.file("err"), O_WRONLY | O_CREAT, 0600);
  auto const before = open_descriptors();
  auto const done =
      served.call({{"lcfs", "x"}, {{"A", "1"}}, 0123}, {in.get(), out.get(), err.get()});
  REQUIRE_MESSAGE(done, (done ? "" : done.error().text()));
  REQUIRE(*done);
  CHECK(**done == 7);
  CHECK(seen != nullptr);
  CHECK(where == here);
  CHECK(mask == 0123);
  CHECK(std::filesystem::current_path() == here);
  CHECK(umask(ours) == ours);  // the server's own did not change
  CHECK(std::filesystem::file_size(dir.file("out")) == 1);
  CHECK(std::filesystem::file_size(dir.file("err")) == 1);
  CHECK(comes_true([&] { return open_descriptors() == before; }));
  CHECK(served->counts().commands == 1);

  // Descriptors that aren't open become /dev/null.
  Served quiet([](ControlRequest& request) {
    char letter = 0;
    return read(request.in.get(), &letter, 1) == 0 ? 3 : 4;
  });
  int const closed = dup(in.get());
  close(closed);
  CHECK(quiet.call(small_command(), {closed, closed, closed}).operator*() == 3);
}

TEST_CASE("control server: a message cut short at any byte is dropped, and costs nothing") {
  std::atomic<int> ran{0};
  Served served([&](ControlRequest&) { return ++ran; });
  auto const before = open_descriptors();
  auto const message = *encode_command(small_command());
  for (std::size_t n = 0; n < message.size(); ++n) {
    CAPTURE(n);
    Raw const raw(served.socket());
    raw.send(std::string_view{message}.substr(0, n), n == 0 ? 0 : 4);
    raw.end();
    CHECK_FALSE(raw.answer());
  }
  CHECK(ran == 0);
  CHECK(comes_true([&] { return served->counts().running == 0; }));
  CHECK(served->counts().dropped == message.size());
  CHECK(comes_true([&] { return open_descriptors() == before; }));
  CHECK(served.call(small_command()).operator*() == 1);
}

TEST_CASE(
    "control server: wrong numbers of descriptors, magic, version, length: refused with words") {
  Served served([](ControlRequest&) { return 0; });
  auto const before = open_descriptors();
  auto const good = *encode_command(small_command());
  std::uint64_t refused = 0;
  auto const refuse = [&](std::string const& bytes, std::size_t descriptors, ControlRefusal why,
                          char const* word) {
    CAPTURE(descriptors);
    Raw const raw(served.socket());
    raw.send(bytes, descriptors);
    auto const answer = raw.answer();
    REQUIRE(answer);
    CHECK(answer->refusal == why);
    CHECK(answer->exit_code != 0);
    CAPTURE(answer->text);
    CHECK(answer->text.find(word) != std::string::npos);
    ++refused;
  };
  for (std::size_t const n : {0u, 1u, 3u, 5u, 8u})
    refuse(good, n, ControlRefusal::kMalformed, "descriptors");
  auto const changed = [&](std::size_t at, std::uint32_t value) {
    auto bad = good;
    set_u32(bad, at, value);
    return bad;
  };
  refuse(changed(0, 0), 4, ControlRefusal::kMalformed, "magic");
  refuse(changed(8, 0), 4, ControlRefusal::kVersion, "supports 1");
  refuse(changed(8, 99), 4, ControlRefusal::kVersion, "supports 1");
  refuse(changed(12, kControlPayload + 1), 4, ControlRefusal::kMalformed, "length");
  refuse(changed(kControlHeader + 4, 99), 4, ControlRefusal::kMalformed, "cut short");
  {  // descriptors that come later than with the first byte
    Raw const raw(served.socket());
    raw.send(std::string_view{good}.substr(0, 20));
    raw.send(std::string_view{good}.substr(20), 4);
    auto const answer = raw.answer();
    REQUIRE(answer);
    CHECK(answer->refusal == ControlRefusal::kMalformed);
    ++refused;
  }
  {  // a file for a working directory
    Raw const raw(served.socket());
    Fd const null = open_fd("/dev/null", O_RDWR);
    std::array<int, 4> const fds{null.get(), null.get(), null.get(), null.get()};
    auto const address = socket_address(served.socket());
    Fd const socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    REQUIRE(connect(socket.get(), address->get(), sizeof address->address) == 0);
    REQUIRE(send_all(socket.get(), good, fds, ControlClock::now() + std::chrono::seconds(5)));
    std::array<std::byte, kControlHeader> head{};
    Incoming none;
    CHECK(receive_all(socket.get(), head, none, ControlClock::now() + std::chrono::seconds(5)) ==
          Received::kAll);
    ++refused;
  }
  CHECK(comes_true([&] { return served->counts().running == 0; }));
  CHECK(served->counts().refused == refused);
  CHECK(served->counts().commands == 0);
  CHECK(comes_true([&] { return open_descriptors() == before; }));
}

TEST_CASE("control server: random bytes are survived") {
  Served served([](ControlRequest&) { return 0; });
  auto const before = open_descriptors();
  std::mt19937 random(2);
  auto const good = *encode_command(small_command());
  for (int i = 0; i < 300; ++i) {
    auto noise = good;
    for (auto changes = 1 + random() % 5; changes-- > 0;)
      noise[random() % noise.size()] = static_cast<char>(random());
    Raw const raw(served.socket());
    raw.send(noise, random() % 8);
    raw.end();
    (void)raw.answer();
  }
  CHECK(served.call(small_command()).operator*() == 0);
  CHECK(comes_true([&] { return open_descriptors() == before; }));
}

TEST_CASE("control server: who sends nothing is dropped") {
  Served served([](ControlRequest&) { return 0; }, {.patience = std::chrono::milliseconds(200)});
  Raw const silent(served.socket());
  Raw const slow(served.socket());
  slow.send("LCFS", 4);
  CHECK_FALSE(silent.answer());
  CHECK_FALSE(slow.answer());
  CHECK(served->counts().dropped == 2);
}

TEST_CASE(
    "control server: who sends no whole request makes room for who does; running commands stay") {
  std::atomic<bool> go{false};
  Served served(
      [&](ControlRequest& request) {
        if (request.command.args.size() == 1) return 3;
        while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return 4;
      },
      {.connections = 3, .patience = std::chrono::minutes(10)});
  auto const before = open_descriptors();
  std::thread longer([&] { CHECK(served.call({{"lcfs", "long"}, {}, 022}).operator*() == 4); });
  CHECK(comes_true([&] { return served->counts().running == 1; }));
  std::vector<Raw> idle;
  auto const fill = [&] {
    idle.emplace_back(served.socket());
    idle.emplace_back(served.socket());
    idle.back().send("LCFS", 4);  // the beginning of one
    CHECK(comes_true([&] { return served->counts().running == 3; }));
  };
  fill();
  for (std::uint64_t i = 1; i <= 5; ++i) {
    CAPTURE(i);
    auto const done = served.call({{"lcfs"}, {}, 022});
    REQUIRE_MESSAGE(done, (done ? "" : done.error().text()));
    CHECK(done.operator*() == 3);
    CHECK(comes_true([&] { return served->counts().running < 3; }));
    idle.emplace_back(served.socket());
    CHECK(comes_true([&] { return served->counts().running == 3; }));
    CHECK(served->counts().dropped == i);  // one for each, and no more
  }
  CHECK_FALSE(idle.front().answer());  // the first to come is the first to go
  idle.clear();
  go = true;
  longer.join();
  CHECK(comes_true([&] { return served->counts().running == 0; }));
  CHECK(served->counts().commands == 6);
  CHECK(served->counts().refused == 0);
  CHECK(comes_true([&] { return open_descriptors() == before; }));
}

TEST_CASE(
    "control server: as many clients at once as there are places for, and more: none is cut off") {
  Served served([](ControlRequest&) { return 3; }, {.connections = 2});
  std::atomic<int> ran{0}, refused{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 40; ++i)
    clients.emplace_back([&] {
      auto const done = served.call(small_command());
      if (done) {
        ran += done.operator*() == 3 ? 1 : 0;
      } else if (done.error().code == Errc::kBusy) {
        ++refused;
      }
    });
  for (auto& client : clients) client.join();
  CHECK(ran > 0);
  CHECK(ran + refused == 40);
  CHECK(served->counts().dropped == 0);
}

TEST_CASE("control server: stop() tells a client that waits for a place") {
  Served served(
      [](ControlRequest&) { return 3; },
      {.connections = 1, .patience = std::chrono::minutes(10), .grace = std::chrono::minutes(10)});
  Raw const idle(served.socket());
  CHECK(comes_true([&] { return served->counts().running == 1; }));
  Raw const waits(served.socket());
  served->stop();
  auto const told = waits.answer();
  REQUIRE(told);
  CHECK(told->refusal == ControlRefusal::kStopping);
}

TEST_CASE("control server: too many at once, and strangers, are told so") {
  std::atomic<bool> go{false};
  Served served(
      [&](ControlRequest&) {
        while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return 0;
      },
      {.connections = 2});
  std::thread first([&] { CHECK(served.call(small_command()).operator*() == 0); });
  std::thread second([&] { CHECK(served.call(small_command()).operator*() == 0); });
  CHECK(comes_true([&] { return served->counts().running == 2; }));
  auto const third = served.call(small_command());
  REQUIRE_FALSE(third);
  CHECK(third.error().code == Errc::kBusy);
  CHECK(third.error().message.find("2 commands") != std::string::npos);
  go = true;
  first.join();
  second.join();
  CHECK(comes_true([&] { return served->counts().running == 0; }));
  CHECK(served.call(small_command()).operator*() == 0);

  Served closed([](ControlRequest&) { return 0; }, {.allow = [](uid_t) { return false; }});
  auto const refused = closed.call(small_command());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("only") != std::string::npos);
  CHECK(comes_true([&] { return closed->counts().refused == 1; }));  // counted after it is told
}

TEST_CASE("control server: a client that goes away, or says so, stops its command") {
  std::atomic<bool> running{false}, stopped{false};
  Served served([&](ControlRequest& request) {
    running = true;
    while (!request.stop) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stopped = true;
    return 9;
  });
  {
    Raw const raw(served.socket());
    raw.send(*encode_command(small_command()), 4);
    CHECK(comes_true([&] { return running.load(); }));
    CHECK_FALSE(stopped);
  }
  CHECK(comes_true([&] { return stopped.load(); }));
  running = stopped = false;
  std::atomic<bool> stop{false};
  std::thread client([&] { CHECK(served.call(small_command(), {}, &stop).operator*() == 9); });
  CHECK(comes_true([&] { return running.load(); }));
  stop = true;
  client.join();
}

TEST_CASE("control server: stop() stops commands, answers them, and takes the socket away") {
  std::atomic<bool> running{false};
  auto served = std::make_unique<Served>([&](ControlRequest& request) {
    running = true;
    while (!request.stop) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return 5;
  });
  auto const before = open_descriptors();
  auto const socket = served->socket();
  std::thread client([&] { CHECK(served->call(small_command()).operator*() == 5); });
  CHECK(comes_true([&] { return running.load(); }));
  Raw const silent(socket);
  (*served)->stop();
  CHECK_FALSE(std::filesystem::exists(socket));
  client.join();
  if (auto const told = silent.answer())
    CHECK(told->refusal == ControlRefusal::kStopping);  // was it accepted already?
  (*served)->stop();                                    // once more does nothing
  auto const nobody = served->call(small_command());
  REQUIRE(nobody);
  CHECK_FALSE(*nobody);
  served.reset();
  CHECK(open_descriptors() < before);
}

TEST_CASE(
    "control server: a socket left over is replaced, one in use is not, nor one that others could "
    "replace") {
  test::TempDir dir;
  auto const socket = dir.file("run/x.sock");
  auto const start = [&] {
    return ControlServer::start({.socket = socket}, [](ControlRequest&) { return 0; });
  };
  {
    std::filesystem::create_directory(dir.file("run"));
    std::filesystem::permissions(dir.file("run"), std::filesystem::perms::owner_all);
    Fd const dead{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    auto const address = socket_address(socket);
    REQUIRE(bind(dead.get(), address->get(), sizeof address->address) == 0);
  }
  CHECK_FALSE(*control_call({socket}, geteuid(), small_command(), {}, nullptr));
  auto first = start();
  REQUIRE(first);
  CHECK(control_call({dir.file("none"), socket}, geteuid(), small_command(), {}, nullptr)
            .
            operator*() == 0);
  auto const second = start();
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kBusy);
  (*first)->stop();

  std::filesystem::permissions(dir.file("run"), std::filesystem::perms::all);
  auto const open_to_all = start();
  REQUIRE_FALSE(open_to_all);
  CHECK(open_to_all.error().code == Errc::kInvalid);
  std::filesystem::remove_all(dir.file("run"));
  std::filesystem::create_directory_symlink("/tmp", dir.file("run"));
  CHECK_FALSE(start());
}

TEST_CASE("control socket: its place, however long the path") {
  test::TempDir dir;
  std::ofstream(dir.file("store")) << "x";
  struct stat st {};
  REQUIRE(stat(dir.file("store").c_str(), &st) == 0);
  auto store = store_identity(dir.file("store"));
  REQUIRE(store);
  auto const name = fmt::format("/{:x}-{:x}.sock", st.st_dev, st.st_ino);
  auto const env = [](char const* variable) -> std::optional<std::string> {
    return std::string_view{variable} == "LCFS_RUNTIME_DIR" ? std::optional<std::string>{"/r"}
                                                            : std::nullopt;
  };
  CHECK(control_socket_path(*store, env) == "/r" + name);
  CHECK(control_socket_paths(*store, env).size() == 1);
  store->owner = 12345;
  auto const paths = control_socket_paths(*store, {});
  auto const holds = [&](std::string const& path) {
    return std::find(paths.begin(), paths.end(), path) != paths.end();
  };
  CHECK(holds("/run/lcfs" + name));
  CHECK(holds("/run/user/12345/lcfs" + name));
  CHECK(holds("/tmp/lcfs-12345" + name));
  CHECK(control_socket_path({true, st.st_dev, 0, 0}, env).starts_with("/r/b"));
  CHECK_FALSE(store_identity(dir.file("none")));

  auto const deep = dir.file(std::string(120, 'd'));
  auto server =
      ControlServer::start({.socket = deep + "/x.sock"}, [](ControlRequest&) { return 0; });
  REQUIRE_MESSAGE(server, (server ? "" : server.error().text()));
  CHECK(control_call({deep + "/x.sock"}, geteuid(), small_command(), {}, nullptr).operator*() == 0);
}
