// SPDX-License-Identifier: Apache-2.0
#include "cli/out_of_memory.h"

#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include "cli/run.h"

namespace lcfs::cli {
namespace {

int exit_code = kFailed;  // set before there are threads

// This must not allocate memory.
[[noreturn]] void end(std::string_view why) {
  [[maybe_unused]] auto const n =
      ::write(STDERR_FILENO, why.data(), why.size());  // there is no other place to report it
  ::_exit(exit_code);
}

[[noreturn]] void no_memory() {
  end("lcfs: out of memory; the command was undone; raise the limit (ulimit -v, memory limit of "
      "the "
      "cgroup)\n");
}

// Our own code throws no exceptions; these come from the library.
[[noreturn]] void terminated() {
  if (auto const what = std::current_exception()) {
    try {
      std::rethrow_exception(what);
    } catch (std::bad_alloc const&) {
      no_memory();
    } catch (std::system_error const& error) {
      if (error.code() == std::errc::resource_unavailable_try_again)
        end("lcfs: cannot start another thread; the command was undone; raise the limit (memory, "
            "or "
            "ulimit -u)\n");
    } catch (...) {
    }
  }
  std::abort();
}

}  // namespace

void end_when_out_of_memory(int argc, char const* const* argv) {
  auto const is = [&](int i, std::string_view word) {
    return i < argc && std::string_view(argv[i]) == word;
  };
  bool const by_name = argc > 0 && std::string_view(argv[0]).ends_with("fsck.lcfs");
  if (by_name || is(1, "fsck")) exit_code = kFsckOperation;
  std::set_terminate(terminated);
}

}  // namespace lcfs::cli
