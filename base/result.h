// SPDX-License-Identifier: Apache-2.0
// Errors are values that say where.  A Result<T> is either a T or an Error; nothing in lcfs throws
// across a folder's border.  Result is [[nodiscard]]: the compiler rejects code that ignores one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace lcfs {

enum class Errc : std::uint8_t {
  kIo,           // the device or the host refused; Error::sys is its errno
  kCorrupt,      // bytes that break the format, or fail their checksum
  kUnsupported,  // valid, but this lcfs cannot handle it (feature bits, media types)
  kInvalid,      // the caller's argument or input is wrong
  kNotFound,     // no such layer, image or file
  kExists,       // the name is taken
  kNoSpace,      // the store, a quota or the host is full
  kBusy,         // somebody else uses it
  kReadOnly,     // a read-only layer or store, or a store that failed and became read-only
  kFs,           // an ordinary answer of the file API (ENOENT, ENOTDIR, ...); sys is the errno
  kInterrupted,  // the caller asked to stop
};

inline constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};

// Whether Error::text() names the offset: fsck, verify and -v do.
enum class Offsets : std::uint8_t { kHide, kShow };

// Made by the functions named after the kinds of error, and refined by in(), at() and as():
//   return Error::corrupt("node checksum does not match").in(device.name()).at(offset);
//   return Error::io("cannot open", errno).in(path);
// A message is for people: the problem, and the next step behind a semicolon where there is one
// that helps.  It neither repeats the path or the offset nor spells out the errno.
struct Error {
  Errc code = Errc::kInvalid;
  std::string message{};
  int sys = 0;                       // errno of the call that failed, or 0; text() spells it out
  std::string path{};                // store, archive member or file that the error is about
  std::uint64_t offset = kNoOffset;  // byte in `path` where it was seen
  int answer = 0;                    // what to_errno() returns if neither sys nor code implies it

  [[nodiscard]] static Error invalid(std::string message);
  [[nodiscard]] static Error corrupt(std::string message);
  [[nodiscard]] static Error unsupported(std::string message);
  [[nodiscard]] static Error not_found(std::string message);
  [[nodiscard]] static Error exists(std::string message);
  [[nodiscard]] static Error no_space(std::string message);
  [[nodiscard]] static Error busy(std::string message);
  [[nodiscard]] static Error read_only(std::string message);
  [[nodiscard]] static Error interrupted();
  // A system call failed with `sys`; 0 if the failure has no errno.  The code is kNoSpace,
  // kNotFound or kExists where `sys` means that, else kIo.  Save errno first if making the message
  // may change it.
  [[nodiscard]] static Error io(std::string message, int sys = 0);

  // The same error about a file, at a byte of it, with an errno of its own for the file API.
  [[nodiscard]] Error in(std::string where) &&;
  [[nodiscard]] Error at(std::uint64_t byte) &&;
  [[nodiscard]] Error as(int answers) &&;

  // "PATH: offset 0xOFFSET: MESSAGE: strerror(sys)"; parts that are not known are left out.
  [[nodiscard]] std::string text(Offsets offsets = Offsets::kHide) const;
  // The errno a system call would fail with: sys, answer, or that of the code.  Never 0.
  [[nodiscard]] int to_errno() const;
};

// An answer of the file API.  It has no text, for it is made often (at every failed lookup).
[[nodiscard]] inline Error fs_error(int sys) { return Error{.code = Errc::kFs, .sys = sys}; }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : v_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return v_.index() == 0; }
  [[nodiscard]] bool ok() const { return v_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&v_); }
  T const& operator*() const& { return *std::get_if<0>(&v_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&v_)); }
  T* operator->() { return std::get_if<0>(&v_); }
  T const* operator->() const { return std::get_if<0>(&v_); }
  Error& error() & { return *std::get_if<1>(&v_); }
  Error const& error() const& { return *std::get_if<1>(&v_); }
  Error&& error() && { return std::move(*std::get_if<1>(&v_)); }

 private:
  std::variant<T, Error> v_;
};

struct Ok {};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Ok) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return v_.index() == 0; }
  [[nodiscard]] bool ok() const { return v_.index() == 0; }
  Error& error() & { return *std::get_if<1>(&v_); }
  Error const& error() const& { return *std::get_if<1>(&v_); }
  Error&& error() && { return std::move(*std::get_if<1>(&v_)); }

 private:
  std::variant<Ok, Error> v_;
};

using Status = Result<void>;

}  // namespace lcfs

#define LCFS_CAT2(a, b) a##b
#define LCFS_CAT(a, b) LCFS_CAT2(a, b)

// Returns the error of `expr` (a Status, or a Result whose value is not needed) to the caller.
#define LCFS_TRY(expr) LCFS_TRY_(LCFS_CAT(lcfs_try_, __COUNTER__), expr)
#define LCFS_TRY_(tmp, expr)                                    \
  do {                                                          \
    if (auto tmp = (expr); !tmp) return std::move(tmp).error(); \
  } while (false)

// LCFS_TRY_ASSIGN(auto x, f()): x is the value of f(), or the caller gets the error.
#define LCFS_TRY_ASSIGN(decl, expr) \
  LCFS_TRY_ASSIGN_(LCFS_CAT(lcfs_result_, __COUNTER__), decl, expr)
#define LCFS_TRY_ASSIGN_(tmp, decl, expr)  \
  auto tmp = (expr);                       \
  if (!tmp) return std::move(tmp).error(); \
  decl = *std::move(tmp)
