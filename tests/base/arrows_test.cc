// SPDX-License-Identifier: Apache-2.0
// The structure is what doc/design/README.md says: its table of allowed arrows is read, and
// compared with every #include of the folders that it names.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

using Arrows = std::map<std::string, std::set<std::string>>;  // folder -> folders it may include

std::string trimmed(std::string text) {
  auto const begin = text.find_first_not_of(" `");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" `") - begin + 1);
}

std::vector<std::string> split(std::string const& text, char by) {
  std::vector<std::string> out{""};
  for (char const c : text) {
    if (c == by)
      out.emplace_back();
    else
      out.back() += c;
  }
  return out;
}

// Rows of the tables whose heading is "| folder | may include |".
Arrows allowed_arrows(fs::path const& document) {
  Arrows out;
  std::ifstream in(document);
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("| folder | may include |")) {
      inside = true;
      continue;
    }
    if (!line.starts_with('|')) inside = false;
    if (!inside || line.starts_with("|---")) continue;
    auto const cells = split(line, '|');
    REQUIRE(cells.size() == 4);
    auto& row = out[trimmed(cells[1])];
    for (auto const& name : split(cells[2], ',')) {
      if (auto const folder = trimmed(name); !folder.empty()) row.insert(folder);
    }
  }
  return out;
}

// The folder of the table that `path` is in: the longest that fits ("engine/tree" before "engine").
std::string folder_of(std::string const& path, Arrows const& arrows) {
  std::string best;
  for (auto const& [folder, row] : arrows) {
    if (path.starts_with(folder + "/") && folder.size() > best.size()) best = folder;
  }
  return best;
}

Arrows arrows_of(fs::path const& root, Arrows const& known) {
  Arrows out;
  for (auto const& entry : known) out[entry.first];
  for (auto const& entry : known) {
    if (entry.first.find('/') != std::string::npos) continue;  // a room, walked with its folder
    for (auto const& file : fs::recursive_directory_iterator(root / entry.first)) {
      auto const extension = file.path().extension();
      if (extension != ".h" && extension != ".cc") continue;
      auto const from = folder_of(file.path().lexically_relative(root).string(), known);
      std::ifstream in(file.path());
      for (std::string line; std::getline(in, line);) {
        if (!line.starts_with("#include \"")) continue;
        auto const path = line.substr(10, line.rfind('"') - 10);
        auto const to = folder_of(path, known);
        CAPTURE(file.path().string());
        CAPTURE(line);
        CHECK_MESSAGE(!to.empty(), "a header of a folder that the table does not name");
        if (to != from) out[from].insert(to);
      }
    }
  }
  return out;
}

std::set<std::string> missing(std::set<std::string> const& of, std::set<std::string> const& in) {
  std::set<std::string> out;
  for (auto const& name : of) {
    if (!in.contains(name)) out.insert(name);
  }
  return out;
}

}  // namespace

TEST_CASE("arrows: every include is one that doc/design/README.md allows, and each is used") {
  fs::path const root = LCFS_SOURCE_DIR;
  auto const allowed = allowed_arrows(root / "doc/design/README.md");
  REQUIRE(allowed.size() >= 13);
  auto const seen = arrows_of(root, allowed);
  for (auto const& entry : allowed) {
    auto const& folder = entry.first;  // no structured binding: doctest captures it
    auto const& row = entry.second;
    for (auto const& to : missing(seen.at(folder), row))
      FAIL_CHECK(folder << " includes " << to << ", which the table does not allow");
    for (auto const& to : missing(row, seen.at(folder)))
      FAIL_CHECK(folder << " may include " << to << " by the table, but does not");
    for (auto const& to : row) CHECK_MESSAGE(allowed.contains(to), to);
  }
}

TEST_CASE("arrows: no folder below another includes it back, directly or through others") {
  auto reach = allowed_arrows(fs::path(LCFS_SOURCE_DIR) / "doc/design/README.md");
  std::erase_if(reach, [](auto const& row) { return row.first.find('/') != std::string::npos; });
  for (bool grew = true; grew;) {
    grew = false;
    for (auto& [folder, row] : reach) {
      for (auto const& to : std::set<std::string>(row)) {
        for (auto const& beyond : reach.at(to)) grew |= row.insert(beyond).second;
      }
    }
  }
  for (auto const& entry : reach) CHECK_MESSAGE(!entry.second.contains(entry.first), entry.first);
}

TEST_CASE("arrows: nobody outside the engine includes one of its rooms") {
  fs::path const root = LCFS_SOURCE_DIR;
  std::set<std::string> rooms;
  for (auto const& entry : fs::directory_iterator(root / "engine")) {
    if (entry.is_directory()) rooms.insert("engine/" + entry.path().filename().string() + "/");
  }
  CHECK(rooms.size() >= 6);
  for (auto const& top : fs::directory_iterator(root)) {
    auto const name = top.path().filename().string();
    if (!top.is_directory() || name == "engine" || name == "tests" || name == "build" ||
        name.starts_with('.'))
      continue;
    for (auto const& file : fs::recursive_directory_iterator(top)) {
      if (file.path().extension() != ".h" && file.path().extension() != ".cc") continue;
      std::ifstream in(file.path());
      for (std::string line; std::getline(in, line);) {
        for (auto const& room : rooms) {
          CHECK_MESSAGE(!line.starts_with("#include \"" + room), file.path().string()
                                                                     << ": " << line);
        }
      }
    }
  }
}
