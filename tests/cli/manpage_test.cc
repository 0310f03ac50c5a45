// SPDX-License-Identifier: Apache-2.0
// The man pages against the parser itself: what one knows, the other does.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace {

using Names = std::set<std::string>;

// A command, the page that tells of it, and the subsection ("" : all of the page).
struct Documented {
  CLI::App const* command;
  std::string page, section;
};

std::vector<std::string> read_page(std::string const& page) {
  std::ifstream in(std::string{LCFS_SOURCE_DIR} + "/man/" + page);
  REQUIRE_MESSAGE(in, page);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> section_of(std::vector<std::string> const& page,
                                    std::string const& section) {
  if (section.empty()) return page;
  auto const start = std::find(page.begin(), page.end(), ".Ss " + section);
  REQUIRE_MESSAGE(start != page.end(), section);
  auto const end = std::find_if(start + 1, page.end(), [](auto const& l) {
    return l.starts_with(".Ss ") || l.starts_with(".Sh ");
  });
  return {start, end};
}

// The options of ".It Fl L , Fl -label Ar LABEL": "-L" and "--label".
Names options_in(std::vector<std::string> const& lines) {
  Names names;
  for (auto const& line : lines) {
    if (!line.starts_with(".It Fl ")) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (word == "Fl" && words >> word) names.insert("-" + word);
  }
  return names;
}

Names options_of(CLI::App const& command) {
  Names names;
  for (auto const* option : command.get_options()) {
    for (auto const& name : option->get_snames()) names.insert("-" + name);
    for (auto const& name : option->get_lnames()) names.insert("--" + name);
  }
  return names;
}

std::vector<Documented> all_commands(CLI::App const& app) {
  std::vector<Documented> all{{&app, "lcfs.8", ""}};
  for (auto const* command : app.get_subcommands({})) {
    auto const page = "lcfs-" + command->get_name() + ".8";
    auto const inner = command->get_subcommands({});
    all.push_back({command, page, inner.empty() ? "" : "lcfs " + command->get_name()});
    for (auto const* sub : inner)
      all.push_back({sub, page, "lcfs " + command->get_name() + " " + sub->get_name()});
  }
  return all;
}

bool contains(std::vector<std::string> const& lines, std::string const& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](auto const& line) { return line.find(text) != std::string::npos; });
}

struct Parser {
  std::ostringstream out, err;
  lcfs::cli::Io io{out, err};
  lcfs::cli::Context context{io};
  std::unique_ptr<CLI::App> app = lcfs::cli::make_app(context);
};

}  // namespace

TEST_CASE("man pages: every option of every command is told, and every option told exists") {
  Parser const parser;
  for (auto const& known : all_commands(*parser.app)) {
    CAPTURE(known.page);
    CAPTURE(known.section);
    auto const taken = options_of(*known.command);
    auto const told = options_in(section_of(read_page(known.page), known.section));
    for (auto const& name : taken)
      CHECK_MESSAGE(told.contains(name), name << " is not in the page");
    for (auto const& name : told)
      CHECK_MESSAGE(taken.contains(name), name << " is in the page only");
  }
}

TEST_CASE("man pages: every argument is in the page, by its name") {
  Parser const parser;
  for (auto const& known : all_commands(*parser.app)) {
    for (auto const* option : known.command->get_options()) {
      if (!option->get_positional()) continue;
      auto const name = option->get_name(true);
      CHECK_MESSAGE(contains(read_page(known.page), "Ar " + name), known.page << " " << name);
    }
  }
}

TEST_CASE("man pages: each has exit codes and an example, and so does each command's help") {
  Parser const parser;
  for (auto const& known : all_commands(*parser.app)) {
    CAPTURE(known.page);
    auto const lines = read_page(known.page);
    for (char const* heading :
         {".Sh NAME", ".Sh SYNOPSIS", ".Sh DESCRIPTION", ".Sh EXIT STATUS", ".Sh EXAMPLES"})
      CHECK_MESSAGE(contains(lines, heading), heading);
    CAPTURE(known.command->get_name());
    CHECK(known.command->help().find("Example:") != std::string::npos);
  }
}

TEST_CASE("man pages: lcfs(8) names every command") {
  Parser const parser;
  auto const page = read_page("lcfs.8");
  for (auto const* command : parser.app->get_subcommands({}))
    CHECK(contains(page, ".It Xr lcfs-" + command->get_name() + " 8"));
}
