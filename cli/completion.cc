// SPDX-License-Identifier: Apache-2.0
// lcfs completion, and the hidden command that its scripts call.
#include "cli/completion.h"

#include <algorithm>

#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {
namespace {

// What the words before the cursor select.
struct Typed {
  CLI::App* command = nullptr;
  CLI::Option* value_of = nullptr;  // the option whose value is being typed
  std::size_t positionals = 0;
  bool only_positionals = false;  // after "--"
  std::string store{};
};

bool takes_value(CLI::Option const& option) { return option.get_items_expected_max() != 0; }

Typed read_words(CLI::App& app, std::vector<std::string> const& words) {
  Typed typed{&app, nullptr, 0, false, {}};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    auto const& word = words[i];
    if (word == "--" && !typed.only_positionals) {
      typed.only_positionals = true;
    } else if (!typed.only_positionals && word.size() > 1 && word.starts_with('-')) {
      auto const equals = word.find('=');
      auto* option = typed.command->get_option_no_throw(word.substr(0, equals));
      if (option == nullptr || !takes_value(*option)) continue;
      bool const last = equals == std::string::npos && i + 2 == words.size();
      if (last) typed.value_of = option;
      auto const value = equals != std::string::npos ? word.substr(equals + 1)
                         : last                      ? std::string{}
                                                     : words[++i];
      if (option->check_lname("store")) typed.store = value;
    } else {
      auto const inner = typed.command->get_subcommands(
          [&word](CLI::App* sub) { return sub->get_name() == word; });
      if (inner.empty() || typed.positionals != 0) {
        ++typed.positionals;
      } else {
        typed.command = inner.front();
      }
    }
  }
  return typed;
}

// The names in a store; none if it cannot be opened.
void add_names(Context& context, std::string const& path, bool layers,
               std::vector<Completion>& out) {
  auto store = open_store(context, path, Access::kReadOnly);
  if (!store) return;
  if (layers) {
    (void)(*store)
        ->for_each_layer([&out](LayerInfo const& layer) {
          if (!layer.anonymous)
            out.push_back(
                {layer.name, layer.state == LayerState::kOpen ? "writable layer" : "layer"});
          return true;
        })
        .ok();
  }
  (void)(*store)
      ->for_each_image([&out](ImageDetails const& image) {
        for (auto const& name : image.names) out.push_back({name, "image"});
        return true;
      })
      .ok();
}

// The type "WHEN:{auto,always,never}" lists all values.
bool add_choices(std::string const& type, std::vector<Completion>& out) {
  auto const open = type.find('{'), close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos) return false;
  auto left = type.substr(open + 1, close - open - 1);
  while (!left.empty()) {
    auto word = left.substr(0, left.find(','));
    left.erase(0, word.size() + 1);
    out.push_back({std::move(word), {}});
  }
  return true;
}

void add_values(CLI::Option const& option, Context& context, std::string const& store,
                std::vector<Completion>& out) {
  auto const type = option.get_type_name();
  if (add_choices(type, out)) return;
  auto const kind =
      option.get_positional() ? option.get_name(true) : type.substr(0, type.find(':'));
  static constexpr char const* kLayers[] = {"LAYER", "A", "B", "OLD", "PARENT"};
  bool const layers = std::find(std::begin(kLayers), std::end(kLayers), kind) != std::end(kLayers);
  if (layers || kind == "IMAGE") add_names(context, store, layers, out);
}

void add_options(CLI::App const& command, std::vector<Completion>& out) {
  for (auto const* option : command.get_options())
    for (auto const& name : option->get_lnames())
      out.push_back({"--" + name, option->get_description()});
}

// The positional argument that the next word fills.
CLI::Option const* positional(CLI::App const& command, std::size_t index) {
  std::vector<CLI::Option const*> all;
  for (auto const* option : command.get_options())
    if (option->get_positional()) all.push_back(option);
  if (index < all.size()) return all[index];
  return !all.empty() && all.back()->get_items_expected_max() > 1 ? all.back() : nullptr;
}

constexpr char kBash[] =
    "# bash completion for lcfs: source this file, or install it as "
    "/usr/share/bash-completion/completions/lcfs.\n"
    "_lcfs() {\n"
    "  # Not COMP_WORDS: bash splits words at \":\", which image names contain.\n"
    "  local line=${COMP_LINE:0:COMP_POINT} words\n"
    "  read -ra words <<<\"$line\"\n"
    "  [[ $line == *[[:space:]] ]] && words+=('')\n"
    "  mapfile -t COMPREPLY < <(\"${words[0]}\" __complete \"${words[@]:1}\" 2>/dev/null)\n"
    "  COMPREPLY=(\"${COMPREPLY[@]%%$'\\t'*}\")\n"
    "  # bash treats the part up to the last \":\" or \"=\" as a word of its own: remove it.\n"
    "  local word=${words[-1]}\n"
    "  local before=${word%\"${word##*[:=]}\"}\n"
    "  [[ -z $before ]] || COMPREPLY=(\"${COMPREPLY[@]#\"$before\"}\")\n"
    "}\n"
    "complete -o default -F _lcfs lcfs\n";

constexpr char kZsh[] =
    "#compdef lcfs\n"
    "# zsh completion for lcfs: install this file as _lcfs in a directory of $fpath, or source it "
    "after compinit.\n"
    "_lcfs() {\n"
    "  local -a found\n"
    "  found=(\"${(@f)$(\"${words[1]}\" __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
    "  found=(\"${(@)found%%$'\\t'*}\")\n"
    "  if [[ -n ${found[1]} ]]; then\n"
    "    compadd -- \"${found[@]}\"\n"
    "  else\n"
    "    _files\n"
    "  fi\n"
    "}\n"
    "if [[ ${funcstack[1]} == _lcfs ]]; then\n"
    "  _lcfs \"$@\"\n"
    "else\n"
    "  compdef _lcfs lcfs\n"
    "fi\n";

constexpr char kFish[] =
    "# fish completion for lcfs: install it as ~/.config/fish/completions/lcfs.fish.\n"
    "function __lcfs_complete\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    command $words[1] __complete $words[2..-1] 2>/dev/null\n"
    "end\n"
    "complete -c lcfs -f -a '(__lcfs_complete)'\n"
    "complete -c lcfs -n 'not count (__lcfs_complete) >/dev/null' -F\n";

}  // namespace

std::vector<Completion> complete(CLI::App& app, Context& context,
                                 std::vector<std::string> const& words) {
  std::vector<Completion> all;
  std::string const typing = words.empty() ? std::string{} : words.back();
  auto const typed = read_words(app, words);
  auto const equals = typing.find('=');
  if (typed.value_of != nullptr) {
    add_values(*typed.value_of, context, typed.store, all);
  } else if (!typed.only_positionals && typing.starts_with("--") && equals != std::string::npos) {
    if (auto const* option = typed.command->get_option_no_throw(typing.substr(0, equals));
        option != nullptr) {
      add_values(*option, context, typed.store, all);
      for (auto& one : all) one.word.insert(0, typing.substr(0, equals + 1));
    }
  } else if (!typed.only_positionals && typing.starts_with('-')) {
    add_options(*typed.command, all);
  } else if (auto const inner = typed.command->get_subcommands({}); !inner.empty()) {
    for (auto const* sub : inner) all.push_back({sub->get_name(), sub->get_description()});
  } else if (auto const* option = positional(*typed.command, typed.positionals);
             option != nullptr) {
    add_values(*option, context, typed.store, all);
  }
  std::erase_if(all, [&typing](Completion const& one) { return !one.word.starts_with(typing); });
  return all;
}

int run_complete(std::vector<std::string> const& args, Context& context) {
  auto const app = make_app(context);
  auto const found = complete(*app, context, {args.begin() + 2, args.end()});
  if (context.forwarded) return context.exit;  // the server printed everything
  for (auto const& one : found) {
    context.io.out << escape_controls(one.word);
    if (!one.help.empty()) context.io.out << '\t' << one.help;
    context.io.out << '\n';
  }
  return kOk;
}

void add_completion(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  auto* cmd = app.add_subcommand("completion", "Print a shell completion script");
  cmd->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  cmd->footer("Example:\n  source <(lcfs completion bash)");
  cmd->callback([shell, &context] {
    context.io.out << (*shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish);
  });
}

}  // namespace lcfs::cli
