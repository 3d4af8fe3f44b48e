// Local normalised cross-correlation with its gradients, in one pass over the images.
//
// The volume is cut into tiles of (y, x), walked through along z. Of the images a tile keeps the
// 2 radius + kGroup planes that its next windows need, scaled and with zeros around them; of what
// the gradient sums (the slopes) as many. All of it stays in the cache; memory sees the images and
// the gradients only. Formulas: `kernels/lncc.py`; J is the moving image, I the fixed one.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/api.h"
#include "cpu/lncc_tiling.h"
#include "cpu/lncc_window.h"
#include "cpu/pool.h"

namespace fireants {

namespace {

constexpr double kCountMin = 1e-3;  // of a masked window

// Without a mask: one over the sum of a window's weights along an axis.
template <class T, class Number>
std::vector<Number> inverse_counts(int64_t n, const std::vector<T>& weights) {
  const int64_t radius = static_cast<int64_t>(weights.size()) / 2;
  std::vector<Number> inverse(n);
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t k = -std::min(radius, i); k <= std::min(radius, n - 1 - i); ++k)
      sum += static_cast<double>(weights[k + radius]);
    inverse[i] = static_cast<Number>(1 / sum);
  }
  return inverse;
}

// Correlation of a line of windows and its slopes from the window sums.
template <bool Squared, int Slopes, class T>
void correlate(const T* const* sum, const T* inverse, const T* weight, const T* share, T epsilon,
               int n, T* score, T* const* slope) {
  const T *sj = sum[0], *sjj = sum[1], *si = sum[2], *sii = sum[3], *sij = sum[4];
  T *a_line = slope[kA], *b_line = slope[kB], *rest = slope[kRest];
  T *fixed_b = slope[kFixedB], *fixed_rest = slope[kFixedRest];
#pragma omp simd
  for (int x = 0; x < n; ++x) {
    const T scale = inverse[x], mj = sj[x] * scale, mi = si[x] * scale;
    const T cross = sij[x] * scale - mi * mj;
    T vj = sjj[x] * scale - mj * mj, vi = sii[x] * scale - mi * mi;
    vj = (vj < T(0) ? T(0) : vj) + epsilon;  // a NaN stays
    vi = (vi < T(0) ? T(0) : vi) + epsilon;
    T a, both_inverse, twice_half;
    if constexpr (Squared) {
      both_inverse = T(1) / (vi * vj);
      a = cross * both_inverse;
      twice_half = T(-2) * cross * a;
      score[x] = cross * a * weight[x];
      a *= T(2);
    } else {
      a = T(1) / std::sqrt(vi * vj);
      both_inverse = a * a;
      twice_half = -cross * a;
      score[x] = cross * a * weight[x];
    }
    if constexpr (Slopes > 0) {
      a *= share[x];
      const T half = twice_half * share[x] * both_inverse;
      const T b = half * vi;
      a_line[x] = a;
      b_line[x] = b;
      rest[x] = a * mi + b * mj;
      if constexpr (Slopes == kAllSlopes) {
        const T c = half * vj;
        fixed_b[x] = c;
        fixed_rest[x] = a * mj + c * mi;
      }
    }
  }
}

// One thread's work on one tile after another.
template <class T, class Window>
class Worker {
 public:
  Worker(const Arguments<T>& a, const Tiling& t, const std::vector<T>& weights)
      : a_(a), t_(t), window_(weights), sums_(a.image[2] ? kSums : kSums - 1),
        stride_(t.stride()), inverse_z_(inverse_counts<T, double>(a.s.size[0], weights)),
        inverse_y_(inverse_counts<T, double>(a.s.size[1], weights)),
        inverse_x_(inverse_counts<T, T>(a.s.size[2], weights)) {
    const int64_t ring = int64_t(kSums) * kGroup * t.ring();
    memory_.assign(t.kept() + (ring + kSums * (kGroup + 1) + kAllSlopes + 6) * stride_, T(0));
    T* next = memory_.data();
    auto take = [&](int64_t lines) {
      T* found = next;
      next += lines * stride_;
      return found;
    };
    images_ = take(int64_t(t.planes()) * t.images * t.image_rows());
    slopes_ = t.reach ? take(int64_t(t.planes()) * t.slopes * t.rows()) : nullptr;
    ring_ = take(ring);
    middle_ = take(kSums * kGroup);
    last_ = take(kSums);
    own_ = take(kAllSlopes);
    zero_ = take(1);
    weight_ = take(1);
    share_ = take(1);
    inverse_ = take(1);
    score_ = take(1);
    place_x_ = take(1);
    present_.resize(t.ring());
    place_.resize(t.ring());
    lines_.resize(int64_t(kAllSlopes) * t.planes());
    first_.resize(lines_.size());
    near_.resize(t.ring());
  }

  // The value of a piece; its gradient is written.
  double run(int64_t piece) {
    const int64_t nz = a_.s.size[0], ny = a_.s.size[1], nx = a_.s.size[2];
    const int64_t chunk = piece % t_.zs, x = (piece / t_.zs) % t_.xs;
    const int64_t y = (piece / t_.zs / t_.xs) % t_.ys, volume = piece / t_.zs / t_.xs / t_.ys;
    row_ = volume / a_.s.channels;
    channel_ = volume % a_.s.channels;
    z0_ = chunk * t_.depth;
    z1_ = std::min(nz, z0_ + t_.depth);
    y0_ = std::min(ny, y * t_.height);
    y1_ = std::min(ny, y0_ + t_.height);
    x0_ = std::min(nx, x * t_.width);
    x1_ = std::min(nx, x0_ + t_.width);
    low_ = std::max<int64_t>(0, y0_ - t_.reach);
    high_ = std::min(ny, y1_ + t_.reach);
    value_ = 0;
    if (z0_ >= z1_ || y0_ >= y1_ || x0_ >= x1_) return 0;
    prepare_columns();
    const int64_t first = std::max<int64_t>(0, z0_ - t_.ahead), last = std::min(nz, z1_ + t_.ahead);
    // the groups of windows and those of gradients have to end together
    int64_t z = z0_ + t_.ahead - rounded(2 * t_.ahead, t_.group);
    int64_t loaded = std::max<int64_t>(0, z - t_.deep);
    for (; z < z1_ + t_.ahead; z += t_.group) {
      for (; loaded < std::min(nz, z + t_.group + t_.deep); ++loaded) load(loaded);
      if (z < last && z + t_.group > first) windows(z, first, last);
      if (slopes_ && z - t_.ahead >= z0_) gradients(z - t_.ahead);
    }
    return value_;
  }

 private:
  int64_t slot(int64_t z) const { return z % t_.planes(); }

  // row 0 is that of y = low - radius; column 0 that of x0 - reach - radius
  T* image_line(int which, int64_t z, int64_t row) {
    return images_ + ((slot(z) * t_.images + which) * t_.image_rows() + row) * stride_;
  }

  // row 0 is that of y = low; column 0 that of x0 - reach
  T* slope_line(int which, int64_t z, int64_t row) {
    return slopes_ + ((slot(z) * t_.slopes + which) * t_.rows() + row) * stride_;
  }

  T* ring_line(int field, int g, int64_t row) {
    return ring_ + ((int64_t(field) * t_.group + g) * t_.ring() + row % t_.ring()) * stride_;
  }

  // dst[i] = src(x) for the columns that lie in the image, 0 for the others
  template <class Source>
  void fill(T* dst, int64_t start, int n, const Source& source) const {
    const int64_t nx = a_.s.size[2];
    const int from = static_cast<int>(std::clamp<int64_t>(-start, 0, n));
    const int to = static_cast<int>(std::clamp<int64_t>(nx - start, from, n));
    std::fill(dst, dst + from, T(0));
    source(from, to);
    std::fill(dst + to, dst + n, T(0));
  }

  void copy(T* dst, const T* src, int64_t start, int n, T centre, T factor) const {
    fill(dst, start, n, [&](int from, int to) {
      const T* p = src + start;
#pragma omp simd
      for (int i = from; i < to; ++i) dst[i] = (p[i] - centre) * factor;
    });
  }

  void prepare_columns() {
    const int64_t start = x0_ - t_.reach;
    fill(place_x_, start, t_.columns(), [&](int from, int to) {
      for (int i = from; i < to; ++i) place_x_[i] = inverse_x_[start + i];
    });
    if (!a_.s.weight_field) std::fill(weight_, weight_ + stride_, a_.weight[weight_volume()]);
  }

  int64_t weight_volume() const {
    return (a_.s.weight_rows == 1 ? 0 : row_) * a_.s.weight_channels +
           (a_.s.weight_channels == 1 ? 0 : channel_);
  }

  T factor(int which) const {
    return a_.scaling[which] ? static_cast<T>(a_.scaling[which][2 * row_ + 1]) : T(1);
  }

  int64_t image_offset(int64_t z, int64_t y) const {
    return (row_ * a_.s.channels + channel_) * a_.voxels() + (z * a_.s.size[1] + y) * a_.s.size[2];
  }

  // Plane z of the images, scaled, and of the mask.
  void load(int64_t z) {
    const int64_t ny = a_.s.size[1], nx = a_.s.size[2], start = x0_ - t_.reach - t_.radius;
    const int64_t from = std::max<int64_t>(0, low_ - t_.radius);
    const int64_t to = std::min(ny, high_ + t_.radius);
    for (int which = 0; which < t_.images; ++which) {
      const bool mask = which == 2;
      const double* scaling = mask ? nullptr : a_.scaling[which];
      const T centre = scaling ? static_cast<T>(scaling[2 * row_]) : T(0);
      const T scale = mask ? T(1) : factor(which);
      for (int64_t y = from; y < to; ++y) {
        const int64_t at = mask ? (a_.s.mask_rows == 1 ? 0 : row_) * a_.voxels() + (z * ny + y) * nx
                                : image_offset(z, y);
        copy(image_line(which, z, y - low_ + t_.radius), a_.image[which] + at, start,
             t_.image_columns(), centre, scale);
      }
    }
  }

  // Asks memory for line y of the planes that the next group loads: lines of a tile are too short
  // for the machine to see them coming.
  void prefetch(int64_t z, int64_t y) const {
    const int64_t nx = a_.s.size[2], start = x0_ - t_.reach - t_.radius;
    const int64_t from = std::max<int64_t>(0, start), to = std::min(nx, start + t_.image_columns());
    for (int64_t k = z; k < std::min(a_.s.size[0], z + t_.group); ++k)
      for (int which = 0; which < 2; ++which) {
        const T* line = a_.image[which] + image_offset(k, y);
        for (int64_t x = from; x < to; x += 64 / sizeof(T)) FIREANTS_PREFETCH(line + x);
      }
  }

  // Window sums of `fields` lines for rows_out rows: `produce(row, out)` sums a row along z
  // (false for zeros), `consume(g, row)` takes what `middle_` then holds, summed along y also.
  template <class Produce, class Wanted, class Consume>
  void sweep(int fields, int64_t rows_out, int n, const Produce& produce, const Wanted& wanted,
             const Consume& consume) {
    const int64_t rows_in = rows_out + 2 * t_.radius;
    int64_t done = 0;
    for (int64_t row = 0; row < rows_out; row += kGroup) {
      for (; done < std::min(rows_in, row + t_.ring()); ++done) {
        T* out[kSums * kGroup] = {};
        for (int f = 0; f < fields; ++f)
          for (int g = 0; g < t_.group; ++g) out[f * kGroup + g] = ring_line(f, g, done);
        present_[done % t_.ring()] = produce(done, out);
      }
      for (int k = 0; k < t_.ring(); ++k) {
        const int64_t at = (row + k) % t_.ring();
        place_[k] = row + k < rows_in && present_[at] ? at * stride_ : -1;
      }
      for (int g = 0; g < t_.group; ++g) {
        if (!wanted(g)) continue;
        for (int f = 0; f < fields; ++f) {
          const T* first = ring_line(f, g, 0);
          for (int k = 0; k < t_.ring(); ++k) near_[k] = place_[k] < 0 ? zero_ : first + place_[k];
          T* out[kGroup];
          for (int i = 0; i < kGroup; ++i) out[i] = middle(f, i);
          window_.rows(near_.data(), n, out);
        }
        for (int i = 0; i < std::min<int64_t>(kGroup, rows_out - row); ++i) consume(g, row + i, i);
      }
    }
  }

  T* middle(int field, int i) { return middle_ + (field * kGroup + i) * stride_; }

  // Row 0 of the planes around z to z + group, or null: `line(k, at)` of plane `at`.
  template <class Line>
  void gather(int64_t z, int count, const Line& line) {
    for (int which = 0; which < count; ++which)
      for (int k = 0; k < t_.planes(); ++k) {
        const int64_t at = z - t_.deep + k;
        first_[which * t_.planes() + k] = at < 0 || at >= a_.s.size[0] ? nullptr : line(which, at);
      }
  }

  // Row number `row` of the gathered planes.
  const T* const* gathered(int from, int count, int64_t row) {
    for (int k = from * t_.planes(); k < (from + count) * t_.planes(); ++k)
      lines_[k] = first_[k] ? first_[k] + row * stride_ : zero_;
    return lines_.data() + from * t_.planes();
  }

  // Scores and slopes of the windows of the planes z to z + group.
  void windows(int64_t z, int64_t first, int64_t last) {
    gather(z, t_.images, [&](int which, int64_t at) { return image_line(which, at, 0); });
    sweep(
        sums_, high_ - low_, t_.image_columns(),
        [&](int64_t row, T* const* out) {
          const int64_t y = low_ - t_.radius + row;
          if (y < 0 || y >= a_.s.size[1]) return false;
          prefetch(z + t_.group + t_.deep, y);
          const T* const* j = gathered(0, t_.images, row);
          const T* const* i = j + t_.planes();
          const T* const* w = t_.images == 3 ? i + t_.planes() : nullptr;
          if (t_.group == 1)
            flat(j[0], i[0], w ? w[0] : nullptr, out);
          else
            window_.products(j, i, w, t_.image_columns(), out);
          return true;
        },
        [&](int g) { return z + g >= first && z + g < last; },
        [&](int g, int64_t row, int i) { score(z + g, row, i); });
  }

  // The products of a single plane.
  void flat(const T* j, const T* i, const T* w, T* const* out) const {
    T *sj = out[0], *sjj = out[kGroup], *si = out[2 * kGroup], *sii = out[3 * kGroup];
    T *sij = out[4 * kGroup], *sw = out[5 * kGroup];
    if (w) std::copy(w, w + t_.image_columns(), sw);
#pragma omp simd
    for (int x = 0; x < t_.image_columns(); ++x) {
      const T wj = w ? w[x] * j[x] : j[x], wi = w ? w[x] * i[x] : i[x];
      sj[x] = wj;
      sjj[x] = wj * j[x];
      si[x] = wi;
      sii[x] = wi * i[x];
      sij[x] = wj * i[x];
    }
  }

  void score(int64_t z, int64_t row, int i) {
    const int n = t_.columns();
    const int64_t y = low_ + row;
    const T* sum[kSums];
    for (int f = 0; f < sums_; ++f) {
      T* line = last_ + f * stride_;
      window_.along(middle(f, i), n, line);
      sum[f] = line;
    }
    if (a_.image[2]) {
#pragma omp simd
      for (int x = 0; x < n; ++x) {
        const T count = sum[5][x];
        inverse_[x] = T(1) / (count < T(kCountMin) ? T(kCountMin) : count);
      }
    } else {
      const T outer = static_cast<T>(inverse_z_[z] * inverse_y_[y]);
#pragma omp simd
      for (int x = 0; x < n; ++x) inverse_[x] = outer * place_x_[x];
    }
    if (a_.s.weight_field) {
      const int64_t at = weight_volume() * a_.voxels() + (z * a_.s.size[1] + y) * a_.s.size[2];
      copy(weight_, a_.weight + at, x0_ - t_.reach, n, T(0), T(1));
    }
    const T* share = weight_;
    if (a_.s.exact && t_.slopes) {
#pragma omp simd
      for (int x = 0; x < n; ++x) share_[x] = weight_[x] * inverse_[x];
      share = share_;
    }
    T* slope[kAllSlopes] = {};
    for (int f = 0; f < t_.slopes; ++f)
      slope[f] = slopes_ ? slope_line(f, z, row) : own_ + f * stride_;
    const T epsilon = static_cast<T>(a_.s.epsilon);
    auto run = [&](auto squared) {
      auto* line = correlate<squared(), 0, T>;
      if (t_.slopes == kMovingSlopes) line = correlate<squared(), kMovingSlopes, T>;
      if (t_.slopes == kAllSlopes) line = correlate<squared(), kAllSlopes, T>;
      line(sum, inverse_, weight_, share, epsilon, n, score_, slope);
    };
    if (a_.s.squared)
      run(std::true_type{});
    else
      run(std::false_type{});
    if (z >= z0_ && z < z1_ && y >= y0_ && y < y1_) add_value();
    if (slopes_)  // no windows around what is not in the image
      for (int f = 0; f < t_.slopes; ++f) fill(slope[f], x0_ - t_.reach, n, [](int, int) {});
    else if (t_.slopes)
      gradient(z, y, own_);
  }

  void add_value() {
    T sum = 0;
    const T* from = score_ + t_.reach;
    const int n = static_cast<int>(x1_ - x0_);
#pragma omp simd reduction(+ : sum)
    for (int x = 0; x < n; ++x) sum += from[x];
    value_ += static_cast<double>(sum);
  }

  // The gradients of the planes z to z + group from the window sums of the slopes.
  void gradients(int64_t z) {
    gather(z, t_.slopes, [&](int which, int64_t at) { return slope_line(which, at, 0); });
    sweep(
        t_.slopes, y1_ - y0_, t_.columns(),
        [&](int64_t row, T* const* out) {
          const int64_t y = y0_ - t_.reach + row;
          if (y < low_ || y >= high_) return false;
          for (int f = 0; f < t_.slopes; ++f) {
            const T* const* from = gathered(f, 1, y - low_);
            if (t_.group == 1)
              std::copy(from[0], from[0] + t_.columns(), out[f * kGroup]);
            else
              window_.rows(from, t_.columns(), out + f * kGroup);
          }
          return true;
        },
        [&](int g) { return z + g < z1_; },
        [&](int g, int64_t row, int i) {
          for (int f = 0; f < t_.slopes; ++f)
            window_.along(middle(f, i), rounded(t_.width, kPad), last_ + f * stride_);
          gradient(z + g, y0_ + row, last_);
        });
  }

  // w (I a + J b - rest), and the same by the fixed image, of one line.
  void gradient(int64_t z, int64_t y, const T* slopes) {
    const int64_t row = y - low_ + t_.radius;
    const int n = static_cast<int>(x1_ - x0_), at = t_.reach + t_.radius;
    const T *j = image_line(0, z, row) + at, *i = image_line(1, z, row) + at;
    const T* w = t_.images == 3 ? image_line(2, z, row) + at : nullptr;
    for (int which = 0; which < 2 && a_.gradient[which]; ++which) {
      const T *own = which ? i : j, *other = which ? j : i, *a = slopes;
      const T* b = slopes + (which ? kFixedB : kB) * stride_;
      const T* rest = slopes + (which ? kFixedRest : kRest) * stride_;
      const T scale = factor(which);
      T* out = a_.gradient[which] + image_offset(z, y) + x0_;
      if (w) {
#pragma omp simd
        for (int x = 0; x < n; ++x)
          out[x] = w[x] * scale * (a[x] * other[x] + b[x] * own[x] - rest[x]);
      } else {
#pragma omp simd
        for (int x = 0; x < n; ++x) out[x] = scale * (a[x] * other[x] + b[x] * own[x] - rest[x]);
      }
    }
  }

  Arguments<T> a_;
  Tiling t_;
  Window window_;
  int sums_;
  int64_t stride_;
  std::vector<double> inverse_z_, inverse_y_;
  std::vector<T> inverse_x_, memory_;
  std::vector<char> present_;
  std::vector<int64_t> place_;
  std::vector<const T*> first_, lines_, near_;
  T *images_, *slopes_, *ring_, *middle_, *last_, *own_, *zero_;
  T *weight_, *share_, *inverse_, *score_, *place_x_;
  int64_t row_ = 0, channel_ = 0, z0_ = 0, z1_ = 0, y0_ = 0, y1_ = 0, x0_ = 0, x1_ = 0;
  int64_t low_ = 0, high_ = 0;
  double value_ = 0;
};

template <class T, class Window>
void run(const Arguments<T>& a, const Tiling& t, const std::vector<T>& weights, double* value) {
  const int64_t each = a.s.channels * t.ys * t.xs * t.zs, pieces = a.s.rows * each;
  const int threads = static_cast<int>(std::clamp<int64_t>(a.s.threads, 1, pieces));
  std::vector<Worker<T, Window>> workers;
  workers.reserve(threads);
  for (int k = 0; k < threads; ++k) workers.emplace_back(a, t, weights);
  std::vector<double> parts(pieces);
  parallel(pieces, threads, [&](int64_t k, int worker) { parts[k] = workers[worker].run(k); });
  std::fill(value, value + a.s.rows, 0.0);
  for (int64_t k = 0; k < pieces; ++k) value[k / each] += parts[k];
}

template <class T>
void lncc(Arguments<T> a, double* value) {
  if (!a.gradient[0] && a.gradient[1]) {  // the images may change places
    std::swap(a.image[0], a.image[1]);
    std::swap(a.scaling[0], a.scaling[1]);
    std::swap(a.gradient[0], a.gradient[1]);
  }
  const Tiling t = tiling_of(a);
  std::vector<T> weights(2 * t.radius + 1, T(1));
  if (a.s.gaussian)
    for (int k = -t.radius; k <= t.radius; ++k) {
      const double away = static_cast<double>(k) / std::max<int64_t>(a.s.radius, 1);
      weights[k + t.radius] = static_cast<T>(std::exp(-2 * away * away));
    }
  switch (a.s.gaussian ? 0 : t.radius) {
    case 1: return run<T, Box<T, 1>>(a, t, weights, value);
    case 2: return run<T, Box<T, 2>>(a, t, weights, value);
    case 3: return run<T, Box<T, 3>>(a, t, weights, value);
    case 4: return run<T, Box<T, 4>>(a, t, weights, value);
    default: return run<T, Weighted<T>>(a, t, weights, value);
  }
}

}  // namespace
}  // namespace fireants

// value (rows); scaling: (rows, 2) of centre and factor, or null; mask and gradients may be null.
#define FIREANTS_LNCC(SUFFIX, T)                                                                  \
  FIREANTS_API int fireants_lncc_##SUFFIX(                                                        \
      const fireants::LnccShape* s, const T* moving, const T* fixed, const T* mask,               \
      const double* moving_scaling, const double* fixed_scaling, const T* weight, double* value,  \
      T* grad_moving, T* grad_fixed) {                                                            \
    return fireants::guarded([&] {                                                                \
      fireants::lncc<T>({*s,                                                                      \
                         {moving, fixed, mask},                                                   \
                         {moving_scaling, fixed_scaling},                                         \
                         weight,                                                                  \
                         {grad_moving, grad_fixed}},                                              \
                        value);                                                                   \
    });                                                                                           \
  }

FIREANTS_LNCC(f32, float)
FIREANTS_LNCC(f64, double)
