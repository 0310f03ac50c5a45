// SPDX-License-Identifier: Apache-2.0
#include "tests/support/naive_stack.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

// Nothing: a path that no layer may have.
std::optional<std::vector<std::string>> components(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    auto const part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(part.size() + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part == "..") return std::nullopt;
    parts.emplace_back(part);
  }
  return parts;
}

std::string path_of(NaiveNode const& node) {
  if (node.parent == nullptr) return {};
  for (auto const& [name, child] : node.parent->children) {
    if (child.get() != &node) continue;
    auto const above = path_of(*node.parent);
    return above.empty() ? name : above + "/" + name;
  }
  return {};
}

// A copy whose files are the same ones.
NaiveTree copy(NaiveNode const& from, NaiveNode* parent) {
  auto to = std::make_shared<NaiveNode>(from);
  to->parent = parent;
  for (auto& [name, child] : to->children) child = copy(*child, to.get());
  if (to->directory()) to->file = std::make_shared<NaiveFile>(*from.file);  // a merge changes it
  return to;
}

// In a finished tree; symlinks are not followed.
NaiveNode* look_up(NaiveNode& root, std::vector<std::string> const& parts) {
  auto* at = &root;
  for (auto const& part : parts) {
    auto const it = at->children.find(part);
    if (!at->directory() || it == at->children.end()) return nullptr;
    at = it->second.get();
  }
  return at;
}

class Stacking {
 public:
  explicit Stacking(NaiveTree const& below)
      : below_(below), result_(below ? copy(*below, nullptr) : nullptr) {}

  bool find_links(NaiveNode const& node) {
    if (node.kind == NaiveNode::kLowerLink) {
      auto const parts = components(node.lower);
      auto const* target = below_ && parts ? look_up(*below_, *parts) : nullptr;
      if (target == nullptr || target->directory()) return false;
      links_[&node] = target->file;
    }
    return std::all_of(node.children.begin(), node.children.end(),
                       [this](auto const& c) { return find_links(*c.second); });
  }

  void white_out(std::vector<std::string> const& parts) {
    if (!result_) return;
    if (auto* found = look_up(*result_, parts)) found->parent->children.erase(parts.back());
  }
  void make_opaque(std::vector<std::string> const& parts) {
    auto* found = result_ ? look_up(*result_, parts) : nullptr;
    if (found != nullptr && found->directory()) found->children.clear();
  }

  NaiveTree merge(NaiveNode const& layer) {
    if (!result_) return adopt(layer, nullptr);
    merge(layer, *result_);
    return result_;
  }

 private:
  NaiveTree adopt(NaiveNode const& node, NaiveNode* parent) {
    auto to = std::make_shared<NaiveNode>();
    to->kind = node.directory() ? NaiveNode::kDirectory : NaiveNode::kOther;
    to->parent = parent;
    to->file = node.kind == NaiveNode::kLowerLink ? links_.at(&node) : node.file;
    if (!to->file) to->file = std::make_shared<NaiveFile>(NaiveFile{S_IFDIR | 0755, 0, {}, {}});
    for (auto const& [name, child] : node.children) to->children[name] = adopt(*child, to.get());
    return to;
  }

  void merge(NaiveNode const& node, NaiveNode& into) {
    if (node.file) *into.file = *node.file;
    for (auto const& [name, child] : node.children) {
      auto const it = into.children.find(name);
      if (it != into.children.end() && it->second->directory() && child->directory() &&
          !child->hides) {
        merge(*child, *it->second);
      } else {
        into.children[name] = adopt(*child, &into);
      }
    }
  }

  NaiveTree below_, result_;
  std::map<NaiveNode const*, std::shared_ptr<NaiveFile>> links_{};
};

}  // namespace

NaiveNode* NaiveLayer::fresh(NaiveNode& parent, std::string const& name, NaiveNode::Kind kind,
                             bool hides) {
  auto node = std::make_shared<NaiveNode>();
  node->kind = kind;
  node->hides = hides;
  node->parent = &parent;
  auto& place = parent.children[name];
  if (place) replaced_.push_back(place);
  place = node;
  return node.get();
}

std::optional<NaiveLayer::Place> NaiveLayer::find(std::string_view path, bool make) {
  auto const parts = components(path);
  if (!parts) return std::nullopt;
  std::deque<std::string> todo(parts->begin(), parts->end());
  Place place;
  place.parent = root_.get();
  int hops = 0;
  while (todo.size() > 1 || (todo.size() == 1 && todo.front() == "..")) {
    auto const part = todo.front();
    auto& at = *place.parent;
    auto const it = at.children.find(part);
    auto* const next = it == at.children.end() ? nullptr : it->second.get();
    if (part == "..") {
      if (at.parent != nullptr) place.parent = at.parent;
    } else if (next != nullptr && next->directory()) {
      place.parent = next;
    } else if (next != nullptr && next->kind == NaiveNode::kOther && S_ISLNK(next->file->mode)) {
      if (++hops > 40) return std::nullopt;
      std::string_view target = next->file->text;
      if (target.starts_with('/')) place.parent = root_.get();
      todo.pop_front();
      std::vector<std::string> more;
      while (!target.empty()) {
        auto const one = target.substr(0, target.find('/'));
        target.remove_prefix(std::min(one.size() + 1, target.size()));
        if (!one.empty() && one != ".") more.emplace_back(one);
      }
      todo.insert(todo.begin(), more.begin(), more.end());
      continue;
    } else if (make) {
      place.parent = fresh(at, part, NaiveNode::kImplied, next != nullptr);
    } else {
      for (auto const& one : todo) place.rest += (place.rest.empty() ? "" : "/") + one;
      return place;
    }
    todo.pop_front();
  }
  if (todo.empty()) {
    place.node = place.parent;
    return place;
  }
  place.name = place.rest = todo.front();
  auto const it = place.parent->children.find(place.name);
  if (it != place.parent->children.end()) place.node = it->second.get();
  return place;
}

NaiveNode* NaiveLayer::settle(Place const& place, NaiveNode::Kind kind) {
  if (place.node == nullptr) return fresh(*place.parent, place.name, kind, false);
  if (kind == NaiveNode::kDirectory && place.node->directory()) {
    place.node->kind = kind;
    return place.node;
  }
  if (place.node->parent == nullptr) return nullptr;  // the root
  return fresh(*place.parent, place.name, kind, true);
}

bool NaiveLayer::directory(std::string_view path, NaiveFile file) {
  auto const place = find(path, true);
  auto* node = place ? settle(*place, NaiveNode::kDirectory) : nullptr;
  if (node == nullptr) return false;
  node->file = std::make_shared<NaiveFile>(std::move(file));
  return true;
}

bool NaiveLayer::other(std::string_view path, NaiveFile file) {
  auto const place = find(path, true);
  auto* node = place ? settle(*place, NaiveNode::kOther) : nullptr;
  if (node == nullptr) return false;
  node->file = std::make_shared<NaiveFile>(std::move(file));
  return true;
}

bool NaiveLayer::hardlink(std::string_view path, std::string_view target) {
  auto const source = find(target, false);
  if (!source) return false;
  std::string lower;
  std::shared_ptr<NaiveFile> file;
  if (source->node == nullptr) {
    for (auto const* at = source->parent; at != nullptr; at = at->parent) {
      if (at->hides) return false;
    }
    lower = path_of(*source->parent);
    lower += (lower.empty() ? "" : "/") + source->rest;
  } else if (source->node->kind == NaiveNode::kLowerLink) {
    lower = source->node->lower;
  } else if (source->node->directory()) {
    return false;
  } else {
    file = source->node->file;
  }
  auto const place = find(path, true);
  if (!place) return false;
  if (place->node != nullptr && place->node == source->node) return true;
  auto* node = settle(*place, file ? NaiveNode::kOther : NaiveNode::kLowerLink);
  if (node == nullptr) return false;
  node->file = file;
  node->lower = lower;
  return true;
}

bool NaiveLayer::whiteout(std::string_view path) {
  auto parts = components(path);
  if (!parts || parts->empty()) return false;
  whiteouts_.push_back(*std::move(parts));
  return true;
}

bool NaiveLayer::opaque(std::string_view path) {
  auto parts = components(path);
  if (!parts) return false;
  opaques_.push_back(*std::move(parts));
  return true;
}

NaiveTree NaiveLayer::stack(NaiveTree const& below) const {
  Stacking stacking(below);
  if (!stacking.find_links(*root_)) return nullptr;
  for (auto const& parts : whiteouts_) stacking.white_out(parts);
  for (auto const& parts : opaques_) stacking.make_opaque(parts);
  return stacking.merge(*root_);
}

std::map<std::string, std::string> naive_listing(NaiveTree const& tree) {
  std::map<NaiveFile const*, std::vector<std::string>> names;
  std::map<std::string, NaiveNode const*> all;
  std::function<void(NaiveNode const&, std::string const&)> walk = [&](NaiveNode const& node,
                                                                       std::string const& path) {
    all[path.empty() ? "/" : path] = &node;
    if (!node.directory()) names[node.file.get()].push_back(path);
    for (auto const& [name, child] : node.children) walk(*child, path + "/" + name);
  };
  walk(*tree, "");
  std::map<std::string, std::string> out;
  for (auto const& [path, node] : all) {
    auto const& f = *node->file;
    auto& text = out[path];
    text = fmt::format("{:o} {} ", f.mode, f.mtime);
    if (node->directory()) {
      auto const directories = std::count_if(node->children.begin(), node->children.end(),
                                             [](auto const& c) { return c.second->directory(); });
      text += fmt::format("{} names, {} links", node->children.size(), 2 + directories);
    } else {
      auto& links = names[&f];
      std::sort(links.begin(), links.end());
      text += fmt::format("'{}' at {}", f.text, fmt::join(links, ", "));
    }
    for (auto const& [name, value] : f.xattrs) text += fmt::format(" {}={}", name, value);
  }
  return out;
}

}  // namespace lcfs::test
