// Volumes as lines along one axis, (before, size, after) around it, and differences along them.
//
// Voxels are taken in runs, side by side in memory: along a line where the lines lie so (Along: the
// last axis), else across neighbouring lines.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/pool.h"
#include "shapes.h"

namespace fireants {

constexpr int kRun = 64;
constexpr int64_t kLinesPerPiece = 32;

// body(row, start, lines, worker) for every bundle of lines that lie side by side, `start` the
// offset of the first one's first voxel: of one line where Along, else of up to kRun.
template <bool Along, class Body>
void bundles(const LineShape& s, Body&& body) {
  const int64_t strips = Along ? 1 : (s.after + kRun - 1) / kRun;
  const int64_t each = Along ? kLinesPerPiece : 1, blocks = (s.before + each - 1) / each;
  parallel(s.rows * blocks * strips, s.threads, [&](int64_t k, int worker) {
    const int64_t strip = k % strips, block = (k / strips) % blocks, row = k / (strips * blocks);
    const int64_t x0 = s.after * strip / strips, x1 = s.after * (strip + 1) / strips;
    for (int64_t b = block * each; b < std::min(s.before, (block + 1) * each); ++b)
      body(row, b * s.size * s.after + x0, static_cast<int>(x1 - x0), worker);
  });
}

// body(i, offset, count) for every run of a bundle: place of its first voxel on its line, offset in
// the bundle, voxels.
template <bool Along, class Body>
void runs(const LineShape& s, int lines, Body&& body) {
  for (int64_t i = 0; i < s.size; i += Along ? kRun : 1)
    body(i, i * s.after, Along ? static_cast<int>(std::min<int64_t>(kRun, s.size - i)) : lines);
}

// Central differences of the voxels of one place, one-sided at both ends of a line, or the
// transpose of them: factor (x[above] + ratio x[-below]), exactly 0 where it should be.
template <class T>
struct Stencil {
  int64_t below, above;
  T factor, ratio;

  Stencil(const LineShape& s, int64_t i, bool adjoint, double scale)
      : below(i > 0 ? s.after : 0), above(i + 1 < s.size ? s.after : 0) {
    const auto weight = [&](int64_t k) { return k > 0 && k + 1 < s.size ? 0.5 : 1.0; };
    double high = weight(i), low = -high;
    if (adjoint) {
      low = below ? weight(i - 1) : low;
      high = above ? -weight(i + 1) : high;
    }
    factor = static_cast<T>(scale * high);
    ratio = static_cast<T>(low / high);
  }

  T of(const T* x) const { return factor * (x[above] + ratio * x[-below]); }
};

// body(l, count) for the parts [l, l + count) of a run whose voxels have one stencil.
template <bool Along, class Body>
void spans(const LineShape& s, int64_t i, int count, Body&& body) {
  if (!Along) return body(0, count);
  constexpr int64_t kEnd = 2;  // that far from the ends of a line they differ
  const auto within = [&](int64_t l) { return std::clamp<int64_t>(l, 0, count); };
  const int first = static_cast<int>(within(kEnd - i));
  const int last = std::max(first, static_cast<int>(within(s.size - kEnd - i)));
  for (int l = 0; l < first; ++l) body(l, 1);
  if (first < last) body(first, last - first);
  for (int l = last; l < count; ++l) body(l, 1);
}

// out = scale * differences of x, or + where Add; both of the run at place i.
template <bool Along, bool Add, class T>
void differences(const LineShape& s, int64_t i, int count, bool adjoint, double scale, const T* x,
                 T* out) {
  spans<Along>(s, i, count, [&](int first, int n) {
    const Stencil<T> stencil(s, i + (Along ? first : 0), adjoint, scale);
    const T* from = x + first;
    T* to = out + first;
#pragma omp simd
    for (int l = 0; l < n; ++l) to[l] = (Add ? to[l] : T(0)) + stencil.of(from + l);
  });
}

}  // namespace fireants
