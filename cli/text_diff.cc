// SPDX-License-Identifier: Apache-2.0
#include "cli/text_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace lcfs::cli {
namespace {

constexpr std::ptrdiff_t kMaxCost = 1024;  // edits from either end before a search is cut short
constexpr std::ptrdiff_t kNever = -(std::ptrdiff_t{1} << 40);
constexpr std::size_t kContext = 3;

class Comparison {
 public:
  Comparison(std::vector<std::uint32_t> a, std::vector<std::uint32_t> b)
      : a_(std::move(a)), b_(std::move(b)), gone_(a_.size()), come_(b_.size()) {}

  std::vector<LineChange> run() {
    std::vector<Box> todo{{0, a_.size(), 0, b_.size()}};
    while (!todo.empty()) {
      Box box = todo.back();
      todo.pop_back();
      trim(box);
      if (box.a0 == box.a1 || box.b0 == box.b1) {
        std::fill(gone_.begin() + at(box.a0), gone_.begin() + at(box.a1), true);
        std::fill(come_.begin() + at(box.b0), come_.begin() + at(box.b1), true);
        continue;
      }
      auto const [x, y] = split(box);
      todo.push_back({box.a0, x, box.b0, y});
      todo.push_back({x, box.a1, y, box.b1});
    }
    return changes();
  }

 private:
  struct Box {
    std::size_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
  };
  static std::ptrdiff_t at(std::size_t n) { return static_cast<std::ptrdiff_t>(n); }

  void trim(Box& box) const {
    while (box.a0 < box.a1 && box.b0 < box.b1 && a_[box.a0] == b_[box.b0]) ++box.a0, ++box.b0;
    while (box.a0 < box.a1 && box.b0 < box.b1 && a_[box.a1 - 1] == b_[box.b1 - 1])
      --box.a1, --box.b1;
  }

  // A point on a shortest way through the box, apart from its corners.  forward_[k]: how far x
  // comes on diagonal k (x - y) with d edits; backward_: the same from the other corner.
  std::pair<std::size_t, std::size_t> split(Box const& box) {
    std::ptrdiff_t const n = at(box.a1 - box.a0), m = at(box.b1 - box.b0), delta = n - m;
    std::ptrdiff_t const most = std::min((n + m + 1) / 2, kMaxCost), zero = most + 1;
    forward_.assign(static_cast<std::size_t>(2 * zero + 1), kNever);
    backward_.assign(static_cast<std::size_t>(2 * zero + 1), kNever);
    auto const in = [zero](std::vector<std::ptrdiff_t>& v, std::ptrdiff_t k) -> std::ptrdiff_t& {
      return v[static_cast<std::size_t>(k + zero)];
    };
    in(forward_, 1) = in(backward_, 1) = 0;
    auto const point = [&box](std::ptrdiff_t x, std::ptrdiff_t y) {
      return std::pair{box.a0 + static_cast<std::size_t>(x), box.b0 + static_cast<std::size_t>(y)};
    };
    auto const step = [&](std::vector<std::ptrdiff_t>& v, std::ptrdiff_t k, auto const& same) {
      std::ptrdiff_t x = std::max(in(v, k - 1) + 1, in(v, k + 1)), y = x - k;
      if (x < 0 || x > n || y > m) return in(v, k) = kNever;
      while (x < n && y < m && same(x, y)) ++x, ++y;
      return in(v, k) = x;
    };
    auto const same_forward = [&](std::ptrdiff_t x, std::ptrdiff_t y) {
      return a_[box.a0 + static_cast<std::size_t>(x)] == b_[box.b0 + static_cast<std::size_t>(y)];
    };
    auto const same_backward = [&](std::ptrdiff_t x, std::ptrdiff_t y) {
      return a_[box.a1 - 1 - static_cast<std::size_t>(x)] ==
             b_[box.b1 - 1 - static_cast<std::size_t>(y)];
    };
    for (std::ptrdiff_t d = 0; d <= most; ++d) {
      for (std::ptrdiff_t k = -d; k <= d; k += 2) {
        auto const x = step(forward_, k, same_forward);
        std::ptrdiff_t const other = delta - k;
        if (x != kNever && delta % 2 != 0 && std::abs(other) < d && x + in(backward_, other) >= n)
          return point(x, x - k);
      }
      for (std::ptrdiff_t k = -d; k <= d; k += 2) {
        auto const x = step(backward_, k, same_backward);
        std::ptrdiff_t const other = delta - k;
        if (x != kNever && delta % 2 == 0 && std::abs(other) <= d && x + in(forward_, other) >= n)
          return point(n - x, m - (x - k));
      }
    }
    // Too unlike: on from where most has been passed.
    std::ptrdiff_t best_x = 0, best_y = 0;
    for (std::ptrdiff_t k = -most; k <= most; k += 2) {
      auto const x = in(forward_, k);
      if (x == kNever || 2 * x - k <= best_x + best_y || (x == n && x - k == m)) continue;
      best_x = x;
      best_y = x - k;
    }
    return point(best_x, best_y);
  }

  std::vector<LineChange> changes() const {
    std::vector<LineChange> out;
    for (std::size_t i = 0, k = 0; i < a_.size() || k < b_.size();) {
      LineChange c{i, 0, k, 0};
      while (i < a_.size() && gone_[i]) ++i, ++c.a_count;
      while (k < b_.size() && come_[k]) ++k, ++c.b_count;
      if (c.a_count + c.b_count != 0) {
        out.push_back(c);
      } else {
        ++i, ++k;
      }
    }
    return out;
  }

  std::vector<std::uint32_t> const a_, b_;
  std::vector<bool> gone_, come_;
  std::vector<std::ptrdiff_t> forward_{}, backward_{};
};

void print_line(char sign, std::string_view line, std::ostream& out) {
  out << sign << line;
  if (!line.ends_with('\n')) out << "\n\\ No newline at end of file\n";
}

// "3,5"; of no lines, the one before is named.
std::string range_text(std::size_t from, std::size_t count) {
  if (count == 1) return std::to_string(from + 1);
  return fmt::format("{},{}", count == 0 ? from : from + 1, count);
}

}  // namespace

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    std::size_t const end = text.find('\n');
    lines.push_back(text.substr(0, end == std::string_view::npos ? end : end + 1));
    text.remove_prefix(lines.back().size());
  }
  return lines;
}

std::vector<LineChange> changed_lines(std::vector<std::string_view> const& a,
                                      std::vector<std::string_view> const& b) {
  std::unordered_map<std::string_view, std::uint32_t> numbers;
  auto const numbered = [&numbers](std::vector<std::string_view> const& lines) {
    std::vector<std::uint32_t> out;
    out.reserve(lines.size());
    for (auto const& line : lines)
      out.push_back(
          numbers.emplace(line, static_cast<std::uint32_t>(numbers.size())).first->second);
    return out;
  };
  auto in_a = numbered(a), in_b = numbered(b);
  return Comparison(std::move(in_a), std::move(in_b)).run();
}

void print_hunks(std::string_view text_a, std::string_view text_b, std::ostream& out) {
  auto const a = split_lines(text_a), b = split_lines(text_b);
  auto const changes = changed_lines(a, b);
  for (std::size_t first = 0; first < changes.size();) {
    std::size_t last = first;  // changes whose surroundings touch are one hunk
    while (last + 1 < changes.size() &&
           changes[last + 1].a - (changes[last].a + changes[last].a_count) <= 2 * kContext)
      ++last;
    std::size_t const before = std::min(kContext, changes[first].a);
    std::size_t const from_a = changes[first].a - before, from_b = changes[first].b - before;
    std::size_t const to_a = std::min(a.size(), changes[last].a + changes[last].a_count + kContext);
    std::size_t const to_b =
        changes[last].b + changes[last].b_count + (to_a - changes[last].a - changes[last].a_count);
    out << fmt::format("@@ -{} +{} @@\n", range_text(from_a, to_a - from_a),
                       range_text(from_b, to_b - from_b));
    std::size_t i = from_a;
    for (std::size_t c = first; c <= last; ++c) {
      for (; i < changes[c].a; ++i) print_line(' ', a[i], out);
      for (; i < changes[c].a + changes[c].a_count; ++i) print_line('-', a[i], out);
      for (std::size_t k = 0; k < changes[c].b_count; ++k)
        print_line('+', b[changes[c].b + k], out);
    }
    for (; i < to_a; ++i) print_line(' ', a[i], out);
    first = last + 1;
  }
}

}  // namespace lcfs::cli
