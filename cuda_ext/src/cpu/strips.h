// The output of a sampler, strip by strip on all threads.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/pool.h"
#include "cpu/sampler.h"
#include "shapes.h"

namespace fireants {

constexpr int64_t kRowsPerPiece = 16;

// The pieces of a job: up to kRowsPerPiece lines along the last axis of one plane of one row.
struct Pieces {
  int64_t planes, lines, blocks;

  explicit Pieces(const WarpShape& s)
      : planes(s.out[0]), lines(s.out[1]),
        blocks((s.out[1] + kRowsPerPiece - 1) / kRowsPerPiece) {}

  int64_t count(int64_t rows) const { return rows * planes * blocks; }

  // line(row, z, y) for every line of piece k
  template <class Line>
  void each(int64_t k, Line&& line) const {
    const int64_t block = k % blocks, z = (k / blocks) % planes, row = k / (blocks * planes);
    const int64_t stop = std::min(lines, (block + 1) * kRowsPerPiece);
    for (int64_t y = block * kRowsPerPiece; y < stop; ++y) line(row, z, y);
  }
};

template <int D>
inline void index_of(int64_t z, int64_t y, int* index) {
  if constexpr (D == 3) {
    index[0] = static_cast<int>(z);
    index[1] = static_cast<int>(y);
  } else {
    index[0] = static_cast<int>(y);
  }
}

template <class T, int D>
std::vector<Map<T, D>> maps_of(const WarpShape& s, const double* matrix) {
  std::vector<Map<T, D>> maps;
  for (int64_t r = 0; r < s.matrix_rows; ++r) maps.emplace_back(matrix + r * D * (D + 1));
  return maps;
}

// Visits the output strip by strip: body(piece, row, at, x0, count, strip), `at` the offset of the
// strip's first voxel in a volume.
template <class T, int D, class Index, bool Border, class Body>
void strips(const WarpShape& s, const double* matrix, const T* u, const T* scale, Body&& body) {
  const auto maps = maps_of<T, D>(s, matrix);
  const auto in = extent_of<D>(s.in);
  const Pieces pieces(s);
  const int64_t width = s.out[2], voxels = s.out[0] * s.out[1] * width;
  parallel(pieces.count(s.rows), s.threads, [&](int64_t k, int) {
    Strip<T, D, Index> strip;
    pieces.each(k, [&](int64_t row, int64_t z, int64_t y) {
      int index[D];
      index_of<D>(z, y, index);
      const Map<T, D>& map = maps[s.matrix_rows == 1 ? 0 : row];
      const T* own = u ? u + (s.u_rows == 1 ? 0 : row) * D * voxels : nullptr;
      const T factor = scale ? scale[row] : T(1);
      if (factor == T(0)) own = nullptr;  // even where u is NaN
      for (int64_t x0 = 0; x0 < width; x0 += kLanes) {
        const int count = static_cast<int>(std::min<int64_t>(kLanes, width - x0));
        const int64_t at = (z * s.out[1] + y) * width + x0;
        strip.template place<Border>(map, in, index, static_cast<int>(x0), count,
                                     own ? own + at : nullptr, voxels, factor);
        body(k, row, at, x0, count, strip, index, own ? own + at : nullptr);
      }
    });
  });
}

// Calls f<D, Index, Border> as the shape asks.
template <class F>
void dispatch(const WarpShape& s, bool border, F&& f) {
  const bool wide = s.in[0] * s.in[1] * s.in[2] >= (int64_t(1) << 31);
  auto with_index = [&](auto index) {
    auto with_border = [&](auto flag) {
      if (s.dim == 3)
        f(std::integral_constant<int, 3>{}, index, flag);
      else
        f(std::integral_constant<int, 2>{}, index, flag);
    };
    if (border)
      with_border(std::true_type{});
    else
      with_border(std::false_type{});
  };
  if (wide)
    with_index(int64_t{});
  else
    with_index(int32_t{});
}

}  // namespace fireants
