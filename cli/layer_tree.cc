// SPDX-License-Identifier: Apache-2.0
// lcfs layer tree: draws the tree of layers.
#include <algorithm>
#include <unordered_map>

#include "cli/color.h"
#include "cli/json.h"
#include "cli/units.h"
#include "cli/verb.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, color = "auto";
  bool json = false;
};

constexpr std::size_t kMaxIndent = 16;  // levels, so that a chain of thousands stays readable

// Box-drawing characters, or ASCII where the locale is not UTF-8.
struct Strokes {
  char const *branch, *last, *pass, *gap;
};
Strokes strokes_for(Io const& io) {
  auto const variable = [&io](char const* name) { return io.env ? io.env(name).value_or("") : ""; };
  auto locale = variable("LC_ALL");
  if (locale.empty()) locale = variable("LC_CTYPE");
  if (locale.empty()) locale = variable("LANG");
  std::transform(locale.begin(), locale.end(), locale.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  bool const utf8 =
      locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  return utf8 ? Strokes{"├─ ", "└─ ", "│  ", "   "} : Strokes{"|- ", "`- ", "|  ", "   "};
}

class Picture {
 public:
  Picture(Options const& options, Context& context)
      : options_(options),
        out_(context.io.out),
        paint_(context.io, options.color),
        strokes_(strokes_for(context.io)) {}

  Status load(Store const& store) {
    LCFS_TRY(store.for_each_layer([this](LayerInfo const& layer) {
      index_.emplace(layer.id, layers_.size());
      layers_.push_back(layer);
      return true;
    }));
    for (std::size_t i = layers_.size(); i-- > 0;) children_[layers_[i].parent].push_back(i);
    return store.for_each_image([this](ImageDetails const& image) {
      auto& names = images_[image.info.top_layer];
      names.insert(names.end(), image.names.begin(), image.names.end());
      return true;
    });
  }

  // Depth first, in the order of ids; iterative, because chains can be long.
  void print() {
    struct Next {
      std::size_t index = 0, depth = 0;
      bool last = false;
      std::string prefix{};  // printed before each child of its parent
    };
    std::vector<Next> next;  // the last one is printed next
    auto const push = [&](LayerId parent, std::size_t depth, std::string const& prefix) {
      auto const found = children_.find(parent);
      if (found == children_.end()) return;
      for (std::size_t i = 0; i < found->second.size(); ++i)
        next.push_back({found->second[i], depth, i == 0, prefix});
    };
    push(0, 0, "");
    while (!next.empty()) {
      auto const at = std::move(next.back());
      next.pop_back();
      auto const& layer = layers_[at.index];
      if (options_.json) {
        print_object(layer, at.depth);
      } else {
        auto const stroke = at.depth == 0 ? "" : at.last ? strokes_.last : strokes_.branch;
        out_ << paint_.dim(at.prefix + stroke)
             << (at.depth > kMaxIndent ? fmt::format("[{}] ", at.depth) : "") << words(layer)
             << '\n';
      }
      bool const deeper = at.depth != 0 && at.depth < kMaxIndent;
      push(layer.id, at.depth + 1,
           deeper ? at.prefix + (at.last ? strokes_.gap : strokes_.pass) : at.prefix);
    }
  }

 private:
  [[nodiscard]] std::string words(LayerInfo const& layer) const {
    bool const open = layer.state == LayerState::kOpen;
    auto text = layer.anonymous ? paint_.dim(layer.name)
                : open          ? paint_.green(layer.name)
                                : paint_.bold(layer.name);
    text += "  " + size_text(layer.own_blocks * kBlockSize);
    if (open) text += "  " + paint_.green("writable");
    if (layer.anonymous) text += "  " + paint_.dim("anonymous");
    if (auto const names = images_.find(layer.id); names != images_.end())
      for (auto const& name : names->second)
        text += "  " + paint_.cyan(fmt::format("[{}]", escape(name)));
    return text;
  }

  void print_object(LayerInfo const& layer, std::size_t depth) {
    auto const parent = index_.find(layer.parent);
    auto object = layer_json(
        layer, parent == index_.end() ? std::nullopt : std::optional(layers_[parent->second].name));
    object["depth"] = depth;
    print_json(out_, object);
  }

  Options const& options_;
  std::ostream& out_;
  Paint const paint_;
  Strokes const strokes_;
  std::vector<LayerInfo> layers_{};
  std::unordered_map<LayerId, std::size_t> index_{};
  std::unordered_map<LayerId, std::vector<std::size_t>> children_{};  // the last first
  // Names of the images with this top layer.
  std::unordered_map<LayerId, std::vector<std::string>> images_{};
};

Status print_tree(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  Picture picture(options, context);
  LCFS_TRY(picture.load(*store));
  picture.print();
  return Ok{};
}

}  // namespace

void add_layer_tree(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* tree = add_verb(group, context, options, "tree", "Show the layer tree", "tree", print_tree);
  tree->add_flag("--json", options->json, "Print one JSON object per layer");
  add_color_option(*tree, options->color);
}

}  // namespace lcfs::cli
