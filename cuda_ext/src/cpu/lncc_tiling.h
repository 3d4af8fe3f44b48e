// What LNCC is asked for, and how the volume is cut into tiles for it.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/lncc_window.h"
#include "shapes.h"

namespace fireants {

constexpr int64_t kCache = 512 << 10;          // bytes that a tile keeps at best
constexpr int kStart = 32;                     // samples added up while a line is started
constexpr int kNarrowest = 24, kWidest = 256;  // samples of a tile's lines
constexpr int kHighest = 64;                   // lines of a tile
constexpr int64_t kPieces = 16;                // of a job, at least
constexpr int64_t kDepth = 16;                 // planes of a piece, at least

// What the gradients sum: a, 2 b_J, a E[I] + 2 b_J E[J]; that by I also 2 b_I, a E[J] + 2 b_I E[I].
enum Slope { kA, kB, kRest, kFixedB, kFixedRest };
constexpr int kMovingSlopes = 3, kAllSlopes = 5;

template <class T>
struct Arguments {
  LnccShape s;
  const T* image[3];         // J, I, the mask or null
  const double* scaling[2];  // of J and I: (rows, 2) of centre and factor, or null
  const T* weight;
  T* gradient[2];  // by J and by I, or null; never by I alone

  int slopes() const { return !gradient[0] ? 0 : gradient[1] ? kAllSlopes : kMovingSlopes; }
  int64_t voxels() const { return s.size[0] * s.size[1] * s.size[2]; }
};

inline int rounded(int64_t n, int to) { return static_cast<int>((n + to - 1) / to * to); }

// How the work is cut: the same for any number of threads.
struct Tiling {
  int radius = 0, reach = 0;         // of windows; of the windows that a gradient needs
  int deep = 0, ahead = 0, group = 1;  // both along z; planes at a time
  int height = 0, width = 0, depth = 0;
  int64_t ys = 0, xs = 0, zs = 0;
  int images = 2, slopes = 0;

  int planes() const { return group + 2 * deep; }
  int rows() const { return height + 2 * reach; }  // of windows
  int image_rows() const { return rows() + 2 * radius; }
  int columns() const { return rounded(width + 2 * reach, kPad); }
  int image_columns() const { return rounded(columns() + 2 * radius, kPad); }
  int stride() const { return image_columns() + kPad; }
  int ring() const { return kGroup + 2 * radius; }
  int64_t kept() const {
    return int64_t(planes()) * stride() * (images * image_rows() + (reach ? slopes : 0) * rows());
  }

  // Time of all tiles, in operations on a sample: what is computed twice at the seams, starting
  // lines, and what the cache does not hold.
  double cost(int64_t bytes) const {
    const double high = image_rows(), middle = rounded(rows(), kGroup);
    const double low = rounded(height, kGroup);
    const double wide = image_columns() + kStart, narrow = columns() + kStart;
    const double forward = high * wide * 32 + middle * (wide * 25 + narrow * 85);
    const double backward = middle * narrow * 4 + low * (narrow * 3 + (width + kStart) * 6);
    const double spill = std::max(0.0, double(kept()) * bytes / kCache - 1);
    return double(ys) * xs * (forward + slopes * 3 * (reach ? backward : 0)) * (1 + spill / 8);
  }
};

template <class T>
Tiling tiling_of(const Arguments<T>& a) {
  const int64_t nz = a.s.size[0], ny = a.s.size[1], nx = a.s.size[2];
  Tiling t, best;
  t.radius = static_cast<int>(std::min(a.s.radius, std::max({nz, ny, nx}) - 1));
  t.slopes = a.slopes();
  t.reach = t.slopes && a.s.exact ? t.radius : 0;
  if (nz > 1) {
    t.deep = t.radius;
    t.ahead = t.reach;
    t.group = kGroup;
  }
  t.images = a.image[2] ? 3 : 2;
  for (t.xs = (nx + kWidest - 1) / kWidest; t.xs <= nx; ++t.xs) {
    t.width = static_cast<int>((nx + t.xs - 1) / t.xs);
    if (t.width < kNarrowest && best.xs) break;
    const int64_t top = std::min<int64_t>(ny, kHighest) + kGroup;
    for (int64_t height = kGroup; height < top; height += kGroup) {
      t.ys = (ny + height - 1) / height;
      t.height = static_cast<int>((ny + t.ys - 1) / t.ys);
      if (!best.xs || t.cost(sizeof(T)) < best.cost(sizeof(T))) best = t;
    }
  }
  const int64_t tiles = a.s.rows * a.s.channels * best.ys * best.xs;
  const int64_t zs = std::min((kPieces + tiles - 1) / tiles, (nz + kDepth - 1) / kDepth);
  best.depth = static_cast<int>((nz + zs - 1) / zs);
  best.zs = (nz + best.depth - 1) / best.depth;
  return best;
}

}  // namespace fireants
