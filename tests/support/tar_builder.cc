// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tar_builder.h"

#include <fmt/format.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "format/records.h"
#include "oci/sha256.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

[[noreturn]] void give_up() { std::abort(); }

std::string deflate_member(std::string_view plain, isal_gzip_header* header) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  stream.gzip_flag = header == nullptr ? IGZIP_GZIP : IGZIP_GZIP_NO_HDR;
  std::string out(2 * plain.size() + 4096, '\0');
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = static_cast<std::uint32_t>(out.size());
  if (header != nullptr && isal_write_gzip_header(&stream, header) != 0) give_up();
  std::string input(plain);
  stream.next_in = reinterpret_cast<std::uint8_t*>(input.data());
  stream.avail_in = static_cast<std::uint32_t>(input.size());
  stream.end_of_stream = 1;
  if (isal_deflate(&stream) != COMP_OK || stream.avail_in != 0) give_up();
  out.resize(out.size() - stream.avail_out);
  return out;
}

std::string little_endian(std::uint32_t v) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(v >> (8 * i) & 0xffu);
  return out;
}

}  // namespace

TarBlock::TarBlock(std::string_view name, char type) : bytes_(512, '\0') {
  at(0, name.substr(0, 100)).mode(0644).octal(108, 8, 0).octal(116, 8, 0).size(0).octal(136, 12, 0);
  bytes_[156] = type;
  at(257, std::string_view("ustar\0"
                           "00",
                           8));
  if (type == '3' || type == '4') octal(329, 8, 0).octal(337, 8, 0);
}

TarBlock& TarBlock::at(std::size_t offset, std::string_view bytes) {
  bytes_.replace(offset, bytes.size(), bytes);
  return *this;
}

TarBlock& TarBlock::octal(std::size_t offset, std::size_t width, std::uint64_t value) {
  return at(offset, fmt::format("{:0{}o}", value, width - 1) + '\0');
}

TarBlock& TarBlock::base256(std::size_t offset, std::size_t width, std::int64_t value) {
  std::string field(width, value < 0 ? '\xff' : '\0');
  for (std::size_t i = 0; i < 8 && i < width; ++i)
    field[width - 1 - i] = static_cast<char>(value >> (8 * i) & 0xff);
  field[0] = static_cast<char>(static_cast<unsigned char>(field[0]) | 0x80u);
  return at(offset, field);
}

TarBlock& TarBlock::v7() { return at(257, std::string(8, '\0')); }
TarBlock& TarBlock::gnu() { return at(257, std::string_view("ustar  \0", 8)); }

TarBlock& TarBlock::bad_checksum() {
  sum_ = Sum::kWrong;
  return *this;
}

TarBlock& TarBlock::signed_checksum() {
  sum_ = Sum::kSigned;
  return *this;
}

std::string TarBlock::text() const {
  std::string out = bytes_;
  out.replace(148, 8, 8, ' ');
  std::int64_t sum = sum_ == Sum::kWrong ? 1 : 0;
  for (char const c : out)
    sum += sum_ == Sum::kSigned ? static_cast<signed char>(c) : static_cast<unsigned char>(c);
  return out.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
}

TarBuilder& TarBuilder::raw(std::string_view bytes) {
  text_ += bytes;
  return *this;
}

TarBuilder& TarBuilder::data(std::string_view bytes) {
  text_ += bytes;
  text_.append((512 - bytes.size() % 512) % 512, '\0');
  return *this;
}

TarBuilder& TarBuilder::member(TarBlock header, std::string_view bytes) {
  return block(header.size(bytes.size())).data(bytes);
}

TarBuilder& TarBuilder::pax(PaxRecords const& records, char type) {
  std::string body;
  for (auto const& [key, value] : records) body += pax_record(key, value);
  return member(TarBlock("PaxHeaders/x", type), body);
}

TarBuilder& TarBuilder::gnu_long(std::string_view text, char type) {
  return member(TarBlock("././@LongLink", type).gnu(), std::string(text) + '\0');
}

TarBuilder& TarBuilder::end() { return raw(std::string(1024, '\0')); }

std::string pax_record(std::string_view key, std::string_view value) {
  std::size_t const rest = key.size() + value.size() + 3;  // blank, '=', newline
  std::size_t length = rest + 1;
  while (length != rest + std::to_string(length).size()) ++length;
  return fmt::format("{} {}={}\n", length, key, value);
}

std::string gzip(std::string_view plain) { return deflate_member(plain, nullptr); }

std::string gzip_with_header(std::string_view plain) {
  isal_gzip_header header;
  isal_gzip_header_init(&header);
  std::string name = "layer.tar", comment = "a comment",
              extra = "AB\x02" + std::string(1, '\0') + "xy";
  header.name = name.data();
  header.name_buf_len = static_cast<std::uint32_t>(name.size() + 1);
  header.comment = comment.data();
  header.comment_buf_len = static_cast<std::uint32_t>(comment.size() + 1);
  header.extra = reinterpret_cast<std::uint8_t*>(extra.data());
  header.extra_len = header.extra_buf_len = static_cast<std::uint32_t>(extra.size());
  header.hcrc = 1;
  return deflate_member(plain, &header);
}

std::string zstd(std::string_view plain, bool checksum) {
  auto* const ctx = ZSTD_createCCtx();
  (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  std::size_t const n = ZSTD_compress2(ctx, out.data(), out.size(), plain.data(), plain.size());
  ZSTD_freeCCtx(ctx);
  if (ZSTD_isError(n) != 0) give_up();
  out.resize(n);
  return out;
}

std::string zstd_skippable(std::string_view content) {
  return little_endian(0x184d2a53) + little_endian(static_cast<std::uint32_t>(content.size())) +
         std::string(content);
}

std::string xz_magic() {
  return std::string(
             "\xfd"
             "7zXZ\0",
             6) +
         std::string(600, 'x');
}

std::string sha256_hex(std::string_view bytes) { return digest_hex(oci::sha256(bytes)); }

TestLayer plain_layer(std::string tar) { return {tar, tar}; }
TestLayer gzip_layer(std::string tar) {
  auto blob = gzip(tar);
  return {std::move(tar), std::move(blob), "application/vnd.oci.image.layer.v1.tar+gzip"};
}
TestLayer zstd_layer(std::string tar) {
  auto blob = zstd(tar);
  return {std::move(tar), std::move(blob), "application/vnd.oci.image.layer.v1.tar+zstd"};
}

std::string TestImage::config() const {
  std::vector<std::string> ids;
  for (auto const& layer : layers)
    ids.push_back(fmt::format("\"sha256:{}\"", sha256_hex(layer.plain)));
  return fmt::format(
      R"({{"architecture":"{}","os":"{}","rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      architecture, os, fmt::join(ids, ","));
}

std::string TestImage::manifest() const {
  std::vector<std::string> parts;
  for (auto const& layer : layers) {
    parts.push_back(fmt::format(R"({{"mediaType":"{}","digest":"sha256:{}","size":{}}})",
                                layer.media_type, sha256_hex(layer.blob), layer.blob.size()));
  }
  auto const text = config();
  return fmt::format(
      R"({{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
      R"("config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},)"
      R"("layers":[{}]}})",
      sha256_hex(text), text.size(), fmt::join(parts, ","));
}

std::string TestImage::descriptor(bool platform) const {
  auto const text = manifest();
  auto const where =
      platform ? fmt::format(R"(,"platform":{{"os":"{}","architecture":"{}"}})", os, architecture)
               : "";
  auto const notes =
      name.empty()
          ? ""
          : fmt::format(R"(,"annotations":{{"org.opencontainers.image.ref.name":"{}"}})", name);
  return fmt::format(
      R"({{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{}{}{}}})",
      sha256_hex(text), text.size(), where, notes);
}

Members TestImage::blobs() const {
  Members members;
  auto const add = [&members](std::string bytes) {
    auto path = "blobs/sha256/" + sha256_hex(bytes);
    members.emplace_back(std::move(path), std::move(bytes));
  };
  for (auto const& layer : layers) add(layer.blob);
  add(config());
  add(manifest());
  return members;
}

std::string index_of(std::vector<std::string> const& descriptors) {
  return fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", fmt::join(descriptors, ","));
}

Members oci_members(std::vector<TestImage> const& images) {
  Members members;
  std::vector<std::string> descriptors;
  for (auto const& image : images) {
    for (auto& blob : image.blobs()) set_member(members, blob.first, blob.second);
    descriptors.push_back(image.descriptor());
  }
  members.emplace_back("index.json", index_of(descriptors));
  members.emplace_back("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  return members;
}

namespace {

Members docker_like(std::vector<TestImage> const& images, bool legacy) {
  Members members;
  std::vector<std::string> entries;
  for (auto const& image : images) {
    std::vector<std::string> paths;
    for (auto const& layer : image.layers) {
      auto path = sha256_hex(layer.plain) + (legacy ? "/layer.tar" : ".tar");
      paths.push_back('"' + path + '"');
      set_member(members, path, layer.blob);
      if (legacy) set_member(members, sha256_hex(layer.plain) + "/VERSION", "1.0");
    }
    auto const config = image.config();
    auto const config_path = sha256_hex(config) + ".json";
    set_member(members, config_path, config);
    entries.push_back(fmt::format(R"({{"Config":"{}","RepoTags":["{}"],"Layers":[{}]}})",
                                  config_path, image.name, fmt::join(paths, ",")));
  }
  members.emplace_back("manifest.json", fmt::format("[{}]", fmt::join(entries, ",")));
  return members;
}

}  // namespace

Members docker_members(std::vector<TestImage> const& images) { return docker_like(images, false); }
Members legacy_docker_members(std::vector<TestImage> const& images) {
  return docker_like(images, true);
}

std::string tar_of(Members const& members) {
  TarBuilder tar;
  for (auto const& [name, bytes] : members) {
    if (name.size() > 100) tar.gnu_long(name);
    tar.file(name, bytes);
  }
  return tar.end().text();
}

void set_member(Members& members, std::string_view name, std::string bytes) {
  auto const it =
      std::find_if(members.begin(), members.end(), [&](auto const& m) { return m.first == name; });
  if (it != members.end()) {
    it->second = std::move(bytes);
  } else {
    members.emplace_back(name, std::move(bytes));
  }
}

void write_file(std::string const& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void write_directory(std::string const& directory, Members const& members) {
  for (auto const& [name, bytes] : members) {
    auto const path = std::filesystem::path(directory) / name;
    std::filesystem::create_directories(path.parent_path());
    write_file(path.string(), bytes);
  }
}

}  // namespace lcfs::test
