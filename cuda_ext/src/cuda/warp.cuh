// The composite sampler I(A (x + s u(x)) + t), its gradients, and the composition of warps: one
// thread per output voxel, no coordinates are stored.
//
// INDEX is the type of an offset within one volume: int where that fits.
#include "common.cuh"

namespace fireants {

using Spot = Place<REAL>;

struct Point {
  int index[DIM];  // of the output voxel
  REAL c[DIM];     // where it samples
  bool known;      // no coordinate is NaN
};

__device__ __forceinline__ long long in_voxels(const WarpShape& s) {
  return static_cast<long long>(s.in[0]) * s.in[1] * s.in[2];
}

__device__ __forceinline__ long long out_voxels(const WarpShape& s) {
  return static_cast<long long>(s.out[0]) * s.out[1] * s.out[2];
}

__device__ __forceinline__ int in_size(const WarpShape& s, int axis) {
  return static_cast<int>(s.in[axis + 3 - DIM]);
}

__device__ __forceinline__ void index_of(const WarpShape& s, INDEX at, int* index) {
  const INDEX nx = static_cast<INDEX>(s.out[2]), ny = static_cast<INDEX>(s.out[1]);
  index[DIM - 1] = static_cast<int>(at % nx);
  const INDEX line = at / nx;
  index[DIM - 2] = static_cast<int>(line % ny);
  if (DIM == 3) index[0] = static_cast<int>(line / ny);
}

// u: the row's displacement at the voxel, or null. Offsets may be large: the part of the voxel is
// computed in double.
__device__ __forceinline__ Point point_of(const WarpShape& s, const double* m, const REAL* u,
                                          INDEX at) {
  Point p;
  index_of(s, at, p.index);
  const long long to = out_voxels(s);
  p.known = true;
  for (int i = 0; i < DIM; ++i) {
    const double* line = m + i * (DIM + 1);
    double start = line[DIM];
    for (int k = 0; k < DIM; ++k) start += line[k] * p.index[k];
    REAL c = static_cast<REAL>(start);
    for (int k = 0; u != nullptr && k < DIM; ++k) {
      const REAL a = static_cast<REAL>(line[k]);
      if (a != REAL(0)) c += a * u[k * to];
    }
    p.c[i] = c;
    p.known = p.known && c == c;
  }
  return p;
}

// x + moved
__device__ __forceinline__ Point moved_point(const WarpShape& s, const REAL* moved, INDEX at) {
  Point p;
  index_of(s, at, p.index);
  p.known = true;
  for (int i = 0; i < DIM; ++i) {
    p.c[i] = static_cast<REAL>(p.index[i]) + moved[i];
    p.known = p.known && p.c[i] == p.c[i];
  }
  return p;
}

// What serves one row.
struct Row {
  const double* matrix;
  const REAL* u;  // null for none

  __device__ __forceinline__ Row(const WarpShape& s, const double* all, const REAL* field,
                                 long long row)
      : matrix(all + (s.matrix_rows == 1 ? 0 : row) * DIM * (DIM + 1)),
        u(field ? field + (s.u_rows == 1 ? 0 : row) * DIM * out_voxels(s) : nullptr) {}

  __device__ __forceinline__ Point point(const WarpShape& s, INDEX at) const {
    return point_of(s, matrix, u ? u + at : nullptr, at);
  }
};

__device__ __forceinline__ Spot spot_of(REAL c, int n, bool border) {
  return border ? place_border(c, n) : place_zeros(c, n);
}

// The offsets of the 2^DIM corners; bit a of the corner: upper along axis DIM - 1 - a.
__device__ __forceinline__ void corners_of(const WarpShape& s, const Spot* spot,
                                           INDEX* corner) {
  INDEX base = 0, up[DIM], stride = 1;
  for (int a = DIM - 1; a >= 0; --a) {
    base += spot[a].at * stride;
    up[a] = spot[a].up * stride;
    stride *= in_size(s, a);
  }
  for (int k = 0; k < (1 << DIM); ++k) {
    corner[k] = base;
    for (int a = 0; a < DIM; ++a)
      if (k >> (DIM - 1 - a) & 1) corner[k] += up[a];
  }
}

__device__ __forceinline__ REAL weight_of(const Spot* spot, int corner) {
  REAL w = REAL(1);
  for (int a = 0; a < DIM; ++a) w *= corner >> (DIM - 1 - a) & 1 ? spot[a].w1 : spot[a].w0;
  return w;
}

__device__ __forceinline__ REAL value_of(const REAL* image, const Spot* spot,
                                         const INDEX* corner) {
  REAL along[1 << (DIM - 1)];
  for (int k = 0; k < (1 << (DIM - 1)); ++k)
    along[k] = spot[DIM - 1].w0 * image[corner[2 * k]] + spot[DIM - 1].w1 * image[corner[2 * k + 1]];
  REAL low = spot[DIM - 2].w0 * along[0] + spot[DIM - 2].w1 * along[1];
  if (DIM == 3) {
    const REAL high = spot[1].w0 * along[2] + spot[1].w1 * along[3];
    low = spot[0].w0 * low + spot[0].w1 * high;
  }
  return low;
}

// slope[a] += grad d(value)/d(coordinate a)
__device__ __forceinline__ void add_slopes(const REAL* image, const Spot* spot,
                                           const INDEX* corner, REAL grad, REAL* slope) {
  for (int k = 0; k < (1 << DIM); ++k) {
    const REAL value = grad * image[corner[k]];
    for (int a = 0; a < DIM; ++a) {
      REAL w = value;
      for (int b = 0; b < DIM; ++b) {
        const bool upper = k >> (DIM - 1 - b) & 1;
        w *= b == a ? (upper ? spot[b].d1 : spot[b].d0) : (upper ? spot[b].w1 : spot[b].w0);
      }
      slope[a] += w;
    }
  }
}

__device__ __forceinline__ void spots_of(const WarpShape& s, const Point& p, bool border,
                                         Spot* spot) {
  for (int a = 0; a < DIM; ++a) spot[a] = spot_of(p.c[a], in_size(s, a), border);
}

}  // namespace fireants

using namespace fireants;

extern "C" __global__ void __launch_bounds__(256)
warp(WarpShape s, const REAL* __restrict__ image, const double* __restrict__ matrix,
     const REAL* __restrict__ u, REAL* __restrict__ out) {
  const long long from = in_voxels(s), to = out_voxels(s), row = blockIdx.y;
  const Row own(s, matrix, u, row);
  const REAL* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * from;
  for (long long at = thread_id(); at < to; at += thread_count()) {
    const Point p = own.point(s, at);
    Spot spot[DIM];
    INDEX corner[1 << DIM];
    spots_of(s, p, s.border, spot);
    corners_of(s, spot, corner);
    REAL* target = out + row * s.channels * to + at;
    for (long long c = 0; c < s.channels; ++c)
      target[c * to] = p.known ? value_of(source + c * from, spot, corner) : not_a_number<REAL>();
  }
}
FIREANTS_KERNEL(warp)

// The value at the nearest sample (halves to the even one, as torch rounds).
extern "C" __global__ void __launch_bounds__(256)
warp_nearest(WarpShape s, const REAL* __restrict__ image, const double* __restrict__ matrix,
             const REAL* __restrict__ u, REAL* __restrict__ out) {
  const long long from = in_voxels(s), to = out_voxels(s), row = blockIdx.y;
  const Row own(s, matrix, u, row);
  const double* m = own.matrix;
  for (long long at = thread_id(); at < to; at += thread_count()) {
    int index[DIM];
    index_of(s, at, index);
    REAL point[DIM];
    for (int j = 0; j < DIM; ++j) {
      point[j] = static_cast<REAL>(index[j]);
      if (own.u) point[j] += own.u[j * to + at];
    }
    long long where = 0;
    bool inside = true, known = true;
    for (int i = 0; i < DIM; ++i) {
      REAL c = static_cast<REAL>(m[i * (DIM + 1) + DIM]);
      for (int j = 0; j < DIM; ++j) c += static_cast<REAL>(m[i * (DIM + 1) + j]) * point[j];
      known = known && c == c;
      const REAL top = static_cast<REAL>(in_size(s, i) - 1);
      if (s.border || !(c == c)) c = c > REAL(0) ? (c < top ? c : top) : REAL(0);
      c = rint(c);
      inside = inside && c >= REAL(0) && c <= top;
      where = where * in_size(s, i) + (inside ? static_cast<long long>(c) : 0);
    }
    const REAL* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * from;
    for (long long c = 0; c < s.channels; ++c) {
      const REAL value = inside ? source[c * from + where] : REAL(0);
      out[(row * s.channels + c) * to + at] = known ? value : not_a_number<REAL>();
    }
  }
}
FIREANTS_KERNEL(warp_nearest)

// body(voxel, point, slope) for every voxel of the thread. slope: what its gradient says of its
// coordinates, zero where one is NaN.
template <class Body>
__device__ __forceinline__ void each_slope(const WarpShape& s, const Row& own, const REAL* grad,
                                           const REAL* image, Body body) {
  const long long from = in_voxels(s), to = out_voxels(s), row = blockIdx.y;
  const REAL* source = image + (s.image_rows == 1 ? 0 : row) * s.channels * from;
  const REAL* given = grad + row * s.channels * to;
  for (long long at = thread_id(); at < to; at += thread_count()) {
    const Point p = own.point(s, at);
    Spot spot[DIM];
    INDEX corner[1 << DIM];
    spots_of(s, p, s.border, spot);
    corners_of(s, spot, corner);
    REAL slope[DIM] = {};
    for (long long c = 0; p.known && c < s.channels; ++c)
      add_slopes(source + c * from, spot, corner, given[c * to + at], slope);
    body(at, p, slope);
  }
}

// grad_u (rows, DIM, out)
extern "C" __global__ void __launch_bounds__(256)
warp_backward_u(WarpShape s, const REAL* __restrict__ grad, const REAL* __restrict__ image,
                const double* __restrict__ matrix, const REAL* __restrict__ u,
                REAL* __restrict__ grad_u) {
  const long long to = out_voxels(s), row = blockIdx.y;
  const Row own(s, matrix, u, row);
  each_slope(s, own, grad, image, [&](long long at, const Point&, const REAL* slope) {
    for (int j = 0; j < DIM; ++j) {
      REAL sum = REAL(0);
      for (int i = 0; i < DIM; ++i)
        sum += static_cast<REAL>(own.matrix[i * (DIM + 1) + j]) * slope[i];
      grad_u[(row * DIM + j) * to + at] = sum;
    }
  });
}
FIREANTS_KERNEL(warp_backward_u)

// parts (rows, blocks per row, DIM, DIM + 1): sums of the gradient by A and t.
extern "C" __global__ void __launch_bounds__(256)
warp_backward_matrix(WarpShape s, const REAL* __restrict__ grad, const REAL* __restrict__ image,
                     const double* __restrict__ matrix, const REAL* __restrict__ u,
                     double* __restrict__ parts) {
  const long long to = out_voxels(s), row = blockIdx.y;
  const Row own(s, matrix, u, row);
  double sums[DIM * (DIM + 1)] = {};
  each_slope(s, own, grad, image, [&](long long at, const Point& p, const REAL* slope) {
    for (int i = 0; i < DIM; ++i) {
      const double g = static_cast<double>(slope[i]);
      if (g == 0) continue;  // u may be no number where there is no slope
      for (int j = 0; j < DIM; ++j) {
        const double moved = own.u ? static_cast<double>(own.u[j * to + at]) : 0.0;
        sums[i * (DIM + 1) + j] += g * (moved + p.index[j]);
      }
      sums[i * (DIM + 1) + DIM] += g;
    }
  });
  for (int i = 0; i < DIM * (DIM + 1); ++i) {
    const double sum = over_block(sums[i], Sum());
    if (threadIdx.x == 0) parts[(row * gridDim.x + blockIdx.x) * DIM * (DIM + 1) + i] = sum;
  }
}
FIREANTS_KERNEL(warp_backward_matrix)

// Gradients of an image are added in 64-bit fixed point: integers may come in any order and give
// the same bits. `unit` holds the largest |grad|; one contribution takes at most 2^46 of 2^63.
extern "C" __global__ void __launch_bounds__(256)
warp_backward_image(WarpShape s, const REAL* __restrict__ grad, const double* __restrict__ matrix,
                    const REAL* __restrict__ u, const REAL* __restrict__ unit,
                    unsigned long long* __restrict__ sums) {
  const long long from = in_voxels(s), to = out_voxels(s), row = blockIdx.y;
  const double scale = unit[0] > REAL(0) ? 70368744177664.0 / static_cast<double>(unit[0]) : 0.0;
  const Row own(s, matrix, u, row);
  for (long long at = thread_id(); at < to; at += thread_count()) {
    const Point p = own.point(s, at);
    if (!p.known) continue;
    Spot spot[DIM];
    INDEX corner[1 << DIM];
    spots_of(s, p, s.border, spot);
    corners_of(s, spot, corner);
    for (long long c = 0; c < s.channels; ++c) {
      const double g = static_cast<double>(grad[(row * s.channels + c) * to + at]) * scale;
      unsigned long long* target = sums + ((s.image_rows == 1 ? 0 : row) * s.channels + c) * from;
      for (int j = 0; j < (1 << DIM); ++j) {
        const long long part = llrint(g * static_cast<double>(weight_of(spot, j)));
        if (part) atomicAdd(target + corner[j], static_cast<unsigned long long>(part));
      }
    }
  }
}
FIREANTS_KERNEL(warp_backward_image)

extern "C" __global__ void __launch_bounds__(256)
from_fixed_point(long long count, const REAL* __restrict__ unit,
                 const unsigned long long* __restrict__ sums, REAL* __restrict__ out) {
  const double scale = static_cast<double>(unit[0]) / 70368744177664.0;
  for (long long k = thread_id(); k < count; k += thread_count()) {
    const double sum = static_cast<double>(static_cast<long long>(sums[k]));
    out[k] = static_cast<REAL>(sum * scale);  // NaN or infinity in the gradient: NaN everywhere
  }
}
FIREANTS_KERNEL(from_fixed_point)

// out = s v + u o (id + s v), s one number per row; parts (rows, DIM, blocks per row), when not
// null: the largest |component|. blockIdx.y is the row.
extern "C" __global__ void __launch_bounds__(256)
compose(WarpShape s, const REAL* __restrict__ u, const REAL* __restrict__ v,
        const REAL* __restrict__ scale, REAL* __restrict__ out, REAL* __restrict__ parts) {
  const long long to = out_voxels(s), row = blockIdx.y;
  const REAL factor = scale ? scale[row] : REAL(1);
  const REAL* source = u + (s.image_rows == 1 ? 0 : row) * DIM * to;
  const REAL* own = v + (s.u_rows == 1 ? 0 : row) * DIM * to;
  REAL top[DIM] = {};
  for (long long at = thread_id(); at < to; at += thread_count()) {
    REAL moved[DIM];
    for (int c = 0; c < DIM; ++c)  // a factor of 0 does not move, whatever v is
      moved[c] = factor != REAL(0) ? factor * own[c * to + at] : REAL(0);
    const Point p = moved_point(s, moved, at);
    Spot spot[DIM];
    INDEX corner[1 << DIM];
    spots_of(s, p, true, spot);
    corners_of(s, spot, corner);
    for (int c = 0; c < DIM; ++c) {
      REAL value = p.known ? value_of(source + c * to, spot, corner) : not_a_number<REAL>();
      value += moved[c];
      out[(row * DIM + c) * to + at] = value;
      top[c] = larger(top[c], fabs(value));
    }
  }
  if (parts) {
    for (int c = 0; c < DIM; ++c) {
      const REAL most = over_block(top[c], Larger());
      if (threadIdx.x == 0) parts[(row * DIM + c) * gridDim.x + blockIdx.x] = most;
    }
  }
}
FIREANTS_KERNEL(compose)
