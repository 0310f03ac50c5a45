// SPDX-License-Identifier: Apache-2.0
// Errors are values that say where.  Result<T> is either a T or an Error; nothing in lcfs throws
// across a folder's border.  Both are [[nodiscard]]: an error that nobody looks at is a warning,
// and warnings are errors.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace lcfs {

enum class Errc : std::uint8_t {
  kIo,           // the device or the host said no; Error::sys is its errno
  kCorrupt,      // bytes that break the format, or fail their checksum
  kUnsupported,  // valid, but this lcfs can't do it (feature bits, media types)
  kInvalid,      // the caller's argument or input is wrong
  kNotFound,     // no such layer, image, file
  kExists,       // the name is taken
  kNoSpace,      // no room; sys is ENOSPC
  kBusy,         // in use by someone else
  kReadOnly,     // frozen layer, or a store that went read-only; sys is EROFS
  kFs,           // an ordinary answer of the file API (ENOENT, ENOTDIR, ...); sys is the errno
  kInterrupted,  // the caller asked to stop
};

inline constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};

struct Error {
  Errc code = Errc::kInvalid;
  std::string message{};             // for people: what and why, without path or offset
  int sys = 0;                       // errno, or 0
  std::string path{};                // store, archive member or file it is about
  std::uint64_t offset = kNoOffset;  // byte in `path` where it was seen

  // "PATH: at byte 0xOFFSET: MESSAGE: strerror(sys)", parts that are missing left out.
  [[nodiscard]] std::string text() const;
  // The errno a system call would give for it; never 0.
  [[nodiscard]] int to_errno() const;
};

// An answer of the file API: no text, it is made often (every failed lookup).
[[nodiscard]] inline Error fs_error(int sys) { return Error{Errc::kFs, {}, sys, {}, kNoOffset}; }

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

// Returns the error of `expr` (a Status, or a Result whose value isn't wanted) to the caller.
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
