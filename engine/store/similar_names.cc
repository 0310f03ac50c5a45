// SPDX-License-Identifier: Apache-2.0
// Names that somebody who typed another one may have meant.
#include <algorithm>
#include <numeric>

#include "engine/store/name_table.h"
#include "engine/tree/tree.h"

namespace lcfs {
namespace {

// Characters to put in, take out, change or swap with a neighbour to make `b` of `a`; more than
// `most`: something greater.
std::size_t distance(std::string_view a, std::string_view b, std::size_t most) {
  if (a.size() > b.size() + most || b.size() > a.size() + most) return most + 1;
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t k = 1; k <= b.size(); ++k) {
      now[k] =
          std::min({last[k] + 1, now[k - 1] + 1, last[k - 1] + (a[i - 1] == b[k - 1] ? 0 : 1)});
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
        now[k] = std::min(now[k], before[k - 2] + 1);
    }
    before.swap(last);
    last.swap(now);
  }
  return last[b.size()];
}

// What people type of an image's name.
std::string_view short_name(std::string_view name) {
  for (std::string_view const prefix : {"docker.io/library/", "docker.io/", "localhost/"}) {
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
      break;
    }
  }
  if (name.ends_with(":latest")) name.remove_suffix(7);
  return name;
}

}  // namespace

Result<std::vector<std::string>> NameTable::similar(std::string_view wanted) const {
  constexpr std::size_t kMost = 3;
  std::string_view const given = short_name(wanted);
  std::size_t const far = std::max<std::size_t>(1, std::min<std::size_t>(given.size() / 3, 4));
  std::vector<std::pair<std::size_t, std::string>> best;  // by how unlike they are
  LCFS_TRY(
      scan(tree_.read(), {0, kName, 0}, {0, kName, ~0ull},
           [&](Key const& key, Bytes value) -> Result<bool> {
             LCFS_TRY_ASSIGN(auto const info, parse_name(key, value));
             auto const name = info.type == NameType::kImage ? short_name(info.name) : info.name;
             // Of an image: another tag may be meant.
             auto const repository = name.substr(0, name.rfind(':'));
             std::size_t unlike = distance(given, name, far);
             if (info.type == NameType::kImage && repository == given.substr(0, given.rfind(':'))) {
               unlike = std::min<std::size_t>(unlike, 1);
             } else if (given.size() >= 3 && name.starts_with(given)) {
               unlike = std::min<std::size_t>(unlike, 2);
             } else if (unlike > far) {
               return true;
             }
             auto entry = std::pair{unlike, std::string(info.name)};
             best.insert(std::upper_bound(best.begin(), best.end(), entry), std::move(entry));
             if (best.size() > kMost) best.pop_back();
             return true;
           }));
  std::vector<std::string> out;
  for (auto& entry : best) out.push_back(std::move(entry.second));
  return out;
}

}  // namespace lcfs
