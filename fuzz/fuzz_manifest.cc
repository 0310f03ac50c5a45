// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the JSON documents of an archive, alone and as an archive of one document under
// every name.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "importer/plan.h"
#include "oci/image_name.h"
#include "oci/manifest.h"
#include "oci/platform.h"

namespace {

using namespace lcfs;
using namespace lcfs::importer;

// Documents are split at NULs: index.json (or manifest.json), then what every other name leads to.
class OneArchive final : public Archive {
 public:
  OneArchive(std::string_view root, std::string_view rest, bool docker)
      : root_(root), rest_(rest), docker_(docker) {}
  [[nodiscard]] std::string const& name() const override { return name_; }
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view member) const override {
    if (member == "index.json" && docker_) return std::nullopt;
    if (member == "manifest.json" && !docker_) return std::nullopt;
    if (member == "oci-layout" || member == "repositories") return std::nullopt;
    return rest_.size();
  }
  Result<std::string> document(std::string_view member) override {
    return std::string(member == "index.json" || member == "manifest.json" ? root_ : rest_);
  }

 private:
  std::string name_ = "fuzz";
  std::string_view root_, rest_;
  bool docker_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  (void)oci::parse_index(text);
  (void)oci::parse_manifest(text);
  (void)oci::parse_config(text);
  (void)oci::parse_docker_manifest(text);
  (void)oci::check_oci_layout(text);
  (void)oci::parse_platform(text);
  (void)oci::same_image_name(text, "x");
  auto const cut = text.find('\0');
  auto const rest = cut == std::string_view::npos ? std::string_view{} : text.substr(cut + 1);
  for (bool const docker : {false, true}) {
    OneArchive archive(text.substr(0, cut), rest, docker);
    auto const images = plan_images(archive, {});
    if (!images) continue;
    for (auto const& image : *images) {
      if (image.layers.size() > oci::kMaxLayers || !image.manifest) __builtin_trap();
    }
  }
  return 0;
}
