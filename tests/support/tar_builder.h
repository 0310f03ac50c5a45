// SPDX-License-Identifier: Apache-2.0
// Builds tar archives of every dialect, damaged ones too, gzip and zstd members, and whole image
// archives: byte for byte, with no tool between the test and the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

// One 512-byte header block, to be changed at will before text() adds the checksum.
struct TarBlock {
  explicit TarBlock(std::string_view name = {}, char type = '0');

  TarBlock& at(std::size_t offset, std::string_view bytes);  // any bytes anywhere
  TarBlock& octal(std::size_t offset, std::size_t width, std::uint64_t value);
  TarBlock& base256(std::size_t offset, std::size_t width, std::int64_t value);
  TarBlock& size(std::uint64_t v) { return octal(124, 12, v); }
  TarBlock& mode(std::uint64_t v) { return octal(100, 8, v); }
  TarBlock& link(std::string_view v) { return at(157, v); }
  TarBlock& v7();   // no magic
  TarBlock& gnu();  // GNU magic
  TarBlock& bad_checksum();
  TarBlock& signed_checksum();

  [[nodiscard]] std::string text() const;

 private:
  std::string bytes_;
  enum class Sum { kUnsigned, kSigned, kWrong } sum_ = Sum::kUnsigned;
};

using PaxRecords = std::vector<std::pair<std::string, std::string>>;

class TarBuilder {
 public:
  TarBuilder& raw(std::string_view bytes);
  TarBuilder& block(TarBlock const& header) { return raw(header.text()); }
  TarBuilder& data(std::string_view bytes);                     // padded to a block
  TarBuilder& member(TarBlock header, std::string_view bytes);  // sets the size
  TarBuilder& file(std::string_view name, std::string_view bytes) {
    return member(TarBlock(name), bytes);
  }
  TarBuilder& directory(std::string_view name) { return block(TarBlock(name, '5').mode(0755)); }
  TarBuilder& symlink(std::string_view name, std::string_view to) {
    return block(TarBlock(name, '2').link(to));
  }
  TarBuilder& hardlink(std::string_view name, std::string_view to) {
    return block(TarBlock(name, '1').link(to));
  }
  TarBuilder& pax(PaxRecords const& records, char type = 'x');
  TarBuilder& gnu_long(std::string_view text, char type = 'L');
  TarBuilder& end();  // two blocks of zeroes

  [[nodiscard]] std::string const& text() const { return text_; }

 private:
  std::string text_;
};

[[nodiscard]] std::string pax_record(std::string_view key, std::string_view value);

[[nodiscard]] std::string gzip(std::string_view plain);  // one member
[[nodiscard]] std::string gzip_with_header(
    std::string_view plain);  // with name, comment, extra field and header CRC
[[nodiscard]] std::string zstd(std::string_view plain, bool checksum = true);
[[nodiscard]] std::string zstd_skippable(std::string_view content);
[[nodiscard]] std::string xz_magic();

[[nodiscard]] std::string sha256_hex(std::string_view bytes);

// A layer as an image has it: `blob` is what is stored, `plain` its tar.
struct TestLayer {
  std::string plain{};
  std::string blob{};
  std::string media_type = "application/vnd.oci.image.layer.v1.tar";
};
[[nodiscard]] TestLayer plain_layer(std::string tar);
[[nodiscard]] TestLayer gzip_layer(std::string tar);
[[nodiscard]] TestLayer zstd_layer(std::string tar);

// Files of an archive, in order: to be written into a directory or made a tar.
using Members = std::vector<std::pair<std::string, std::string>>;

struct TestImage {
  std::vector<TestLayer> layers{};
  std::string name = "test";
  std::string os = "linux", architecture = "amd64";

  [[nodiscard]] std::string config() const;
  [[nodiscard]] std::string manifest() const;
  // The descriptor of its manifest, for an index; `platform` adds one.
  [[nodiscard]] std::string descriptor(bool platform = false) const;
  // Its config, manifest and layers under blobs/sha256/.
  [[nodiscard]] Members blobs() const;
};

[[nodiscard]] std::string index_of(std::vector<std::string> const& descriptors);
[[nodiscard]] Members oci_members(std::vector<TestImage> const& images);
[[nodiscard]] Members docker_members(
    std::vector<TestImage> const& images);  // as podman and skopeo write it
[[nodiscard]] Members legacy_docker_members(
    std::vector<TestImage> const& images);  // <id>/layer.tar
[[nodiscard]] std::string tar_of(Members const& members);
void set_member(Members& members, std::string_view name, std::string bytes);
void write_directory(std::string const& directory, Members const& members);
void write_file(std::string const& path, std::string_view bytes);

}  // namespace lcfs::test
