// SPDX-License-Identifier: Apache-2.0
// A lock taken in the wrong order is refused: by clang inside a function, and by debug builds when
// it happens across functions.
#include "engine/locks/lock_order.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using lcfs::Lock;
using lcfs::Mutex;
using lcfs::ReadLock;
using lcfs::SharedMutex;
using lcfs::WriteLock;

struct Health {
  mutable Mutex mu LCFS_LEVEL(health);
};
struct Space {
  mutable Mutex mu LCFS_LEVEL(space);
};
struct Catalog {
  [[nodiscard]] SharedMutex& mutex() const LCFS_RETURN_CAPABILITY(lcfs::structure) { return mu; }
  mutable SharedMutex mu{lcfs::lock_order::structure_rank};
};

// How a child process ends that runs `what`.
template <class What>
bool aborts(What const& what) {
  std::fflush(nullptr);
  pid_t const child = ::fork();
  if (child == 0) {
    std::fclose(stderr);
    std::signal(SIGABRT, SIG_DFL);  // not the test runner's handler
    what();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

// Functions of their own: the compiler does not look through calls, which is what the check at run
// time is for.
[[gnu::noinline]] void lock(Mutex& mu) { Lock const held(mu); }
[[gnu::noinline]] void lock_shared(SharedMutex& mu) { ReadLock const held(mu); }

#if defined(LCFS_CLANG)
// What clang says of `body`, the body of a function with parts of a store.
std::string compile(std::string const& body) {
  std::string const source =
      "#include \"engine/locks/lock_order.h\"\n"
      "namespace lcfs {\n"
      "struct Health { Mutex mu LCFS_LEVEL(health); };\n"
      "struct Space { Mutex mu LCFS_LEVEL(space); };\n"
      "struct Catalog {\n"
      "  SharedMutex& mutex() LCFS_RETURN_CAPABILITY(structure) { return mu; }\n"
      "  SharedMutex mu;\n"
      "  int names LCFS_GUARDED_BY(structure) = 0;\n"
      "};\n"
      "void f(Health& health, Space& space, Catalog& catalog) {" +
      body + "(void)health, (void)space, (void)catalog; }\n}\n";
  std::string const command = std::string("echo '") + source +
                              "' | " LCFS_CLANG
                              " -std=c++20 -x c++ -fsyntax-only -Wthread-safety "
                              "-Wthread-safety-beta -I " LCFS_SOURCE_DIR " - 2>&1";
  FILE* const pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  std::array<char, 4096> part{};
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) out += part.data();
  ::pclose(pipe);
  return out;
}
#endif

}  // namespace

TEST_CASE("lock order: the table's order passes") {
  Health health;
  Space space;
  Catalog catalog;
  WriteLock const structure(catalog.mutex());
  Lock const a(space.mu);
  Lock const b(health.mu);
  CHECK(true);
}

#if defined(LCFS_CHECK_LOCK_ORDER)
TEST_CASE("lock order: debug builds abort on a wrong order across functions") {
  Health health, other;
  Space space;
  Catalog catalog;
  CHECK_FALSE(aborts([&] {
    Lock const held(space.mu);
    lock(health.mu);
  }));
  CHECK(aborts([&] {
    Lock const held(health.mu);
    lock(space.mu);
  }));
  CHECK(aborts([&] {
    Lock const held(health.mu);
    lock_shared(catalog.mu);
  }));
  // Two locks of one level are never held together.
  CHECK(aborts([&] {
    Lock const held(health.mu);
    lock(other.mu);
  }));
}
#endif

#if defined(LCFS_CLANG)
TEST_CASE("lock order: clang refuses a wrong order across classes") {
  CHECK(compile("WriteLock a(catalog.mutex()); Lock b(space.mu); Lock c(health.mu);") == "");
  CHECK(compile("Lock a(health.mu); Lock b(space.mu);").find("must be acquired before") !=
        std::string::npos);
  CHECK(
      compile("Lock a(health.mu); ReadLock b(catalog.mutex());").find("must be acquired before") !=
      std::string::npos);
}

TEST_CASE("lock order: clang refuses what the structure lock guards without it, or shared") {
  CHECK(compile("WriteLock a(catalog.mutex()); catalog.names = 1;") == "");
  CHECK(compile("catalog.names = 1;").find("requires holding") != std::string::npos);
  CHECK(compile("ReadLock a(catalog.mutex()); catalog.names = 1;").find("exclusively") !=
        std::string::npos);
}
#endif
