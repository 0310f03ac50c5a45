// SPDX-License-Identifier: Apache-2.0
#include "tests/support/operations.h"

#include <sys/stat.h>

#include <atomic>
#include <string>

#include "engine/squash.h"
#include "tests/support/importing.h"
#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

Status put(Store& store, char const* layer, char const* file, std::size_t size, char fill) {
  LCFS_TRY_ASSIGN(auto const info, store.find_layer(layer));
  LCFS_TRY_ASSIGN(auto const l, store.layer(info.id));
  auto at = l->lookup(l->root(), file);
  if (!at) at = l->create(l->root(), file, {S_IFREG | 0644});
  if (!at) return std::move(at).error();
  std::string const data(size, fill);
  LCFS_TRY(l->write(at->inode, 0, bytes_of(data)));
  return {};
}

// What the functions of a store take.
struct Ids {
  LayerId base = 0, work = 0;
};
Result<Ids> ids_of(Store& store) {
  LCFS_TRY_ASSIGN(auto const base, store.find_layer("base"));
  LCFS_TRY_ASSIGN(auto const work, store.find_layer("work"));
  return Ids{base.id, work.id};
}

Status import(Store& store) {
  TestImage image;
  image.layers.push_back(gzip_layer(TarBuilder()
                                        .directory("d/")
                                        .file("d/one", std::string(70000, 'x'))
                                        .file("d/two", "2")
                                        .end()
                                        .text()));
  image.layers.push_back(
      plain_layer(TarBuilder().file("d/.wh.two", "").hardlink("link", "d/one").end().text()));
  LCFS_TRY(import_bytes(store, tar_of(docker_members({image})), one_thread()));
  return {};
}

Status with(Store& store, Status (*run)(Store&, Ids)) {
  LCFS_TRY_ASSIGN(auto const ids, ids_of(store));
  return run(store, ids);
}

Status ignore(Result<LayerId> const& made) { return made ? Status{} : Status{made.error()}; }

constexpr Operation kOperations[] = {
    {"files",
     [](Store& s) -> Status {
       LCFS_TRY(put(s, "work", "new", 300000, 'n'));
       LCFS_TRY(put(s, "work", "own", 200000, 'o'));
       return s.checkpoint();
     }},
    {"create",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) { return ignore(t.create_layer("next", i.work)); });
     }},
    {"commit",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) { return ignore(t.commit_layer(i.work, "committed")); });
     }},
    {"freeze",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) -> Status {
         LCFS_TRY(t.freeze_layer(i.work));
         return t.checkpoint();
       });
     }},
    {"rename",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) { return t.rename_layer(i.work, "renamed"); });
     }},
    {"remove",
     [](Store& s) { return with(s, [](Store& t, Ids i) { return t.remove_layer(i.work); }); }},
    {"lazy removal",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) { return t.remove_layer(i.base, Remove::kLazy); });
     }},
    {"quota",
     [](Store& s) { return with(s, [](Store& t, Ids i) { return t.set_quota(i.work, 3000); }); }},
    {"squash",
     [](Store& s) {
       return with(s, [](Store& t, Ids i) {
         std::atomic<bool> const stop{false};
         return ignore(squash_layer(t, 0, i.work, "squashed", stop));
       });
     }},
    {"import", import},
    {"grow", [](Store& s) { return s.grow(40u << 20); }},
    {"undo",
     [](Store& s) -> Status {
       auto const history = s.history();
       return history.empty() ? Status{Error::not_found("no history")}
                              : s.go_back(history.back().checkpoint.generation);
     }},
    {"bring back",
     [](Store& s) -> Status {
       LCFS_TRY(s.bring_back("gone", 0, ""));
       return {};
     }},
    {"drop history", [](Store& s) { return s.drop_history(0); }},
};

}  // namespace

std::span<Operation const> operations() { return kOperations; }

Status prepare_operations(Store& store) {
  LCFS_TRY_ASSIGN(auto const base, store.create_layer("base", 0));
  LCFS_TRY(put(store, "base", "inherited", 150000, 'i'));
  LCFS_TRY(store.create_layer("work", base));
  LCFS_TRY(put(store, "work", "own", 100000, 'w'));
  LCFS_TRY_ASSIGN(auto const gone, store.create_layer("gone", base));
  LCFS_TRY(put(store, "gone", "lost", 50000, 'l'));
  LCFS_TRY(store.checkpoint());
  return store.remove_layer(gone);
}

}  // namespace lcfs::test
