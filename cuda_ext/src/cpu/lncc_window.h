// Sums over the windows of LNCC along one axis, for lines of `n` samples, n a multiple of kPad.
//
// What runs over rows or planes takes pointers to the lines of kGroup + 2 radius neighbours and
// gives the sums around kGroup of them. Nothing is subtracted: sums of float32 keep their digits.
#pragma once
#include <cstddef>
#include <utility>
#include <vector>

#if defined(_MSC_VER)
#define FIREANTS_INLINE __forceinline
#define FIREANTS_PREFETCH(address) static_cast<void>(address)
#else
#define FIREANTS_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#define FIREANTS_INLINE inline __attribute__((always_inline))
#endif

namespace fireants {

constexpr int kGroup = 4;
constexpr int kPad = 8;

// The lines whose window sums LNCC needs: J, J^2, I, I^2, IJ, each times the mask if there is
// one, and the mask.
constexpr int kSums = 6;

// What a box adds up: the lines of one image, or of products of two or three.
template <class T, int N>
struct Line {
  const T* p[N];
  FIREANTS_INLINE T operator()(int k, int x) const { return p[k][x]; }
};

template <class A, class B>
struct Times {
  const A& a;
  const B& b;
  template <class... At>
  FIREANTS_INLINE auto operator()(At... at) const {
    return a(at...) * b(at...);
  }
};

// Boxes of 2 R + 1 samples: neighbours share most of their sums.
template <class T, int R>
struct Box {
  static constexpr int kTaps = 2 * R + 1, kLines = kGroup + 2 * R;
  using Lines = Line<T, kLines>;

  explicit Box(const std::vector<T>&) {}

  void rows(const T* const* in, int n, T* const* out) const { sums(lines(in), n, out); }

  void along(const T* in, int n, T* out) const {
#pragma omp simd
    for (int x = 0; x < n; ++x) {
      T sum = in[x];
      for (int k = 1; k < kTaps; ++k) sum += in[x + k];
      out[x] = sum;
    }
  }

  // The sums of the products of planes: j, i, w (null for 1) are lines as in `rows`; out[f *
  // kGroup + g].
  void products(const T* const* j, const T* const* i, const T* const* w, int n,
                T* const* out) const {
    const Lines own = lines(j), other = lines(i);
    if (w) {
      const Lines mask = lines(w);
      const Times<Lines, Lines> wj{mask, own}, wi{mask, other};
      sums(wj, n, out);
      sums(Times<Times<Lines, Lines>, Lines>{wj, own}, n, out + kGroup);
      sums(wi, n, out + 2 * kGroup);
      sums(Times<Times<Lines, Lines>, Lines>{wi, other}, n, out + 3 * kGroup);
      sums(Times<Times<Lines, Lines>, Lines>{wj, other}, n, out + 4 * kGroup);
      sums(mask, n, out + 5 * kGroup);
    } else {
      sums(own, n, out);
      sums(Times<Lines, Lines>{own, own}, n, out + kGroup);
      sums(other, n, out + 2 * kGroup);
      sums(Times<Lines, Lines>{other, other}, n, out + 3 * kGroup);
      sums(Times<Lines, Lines>{own, other}, n, out + 4 * kGroup);
    }
  }

 private:
  template <size_t... K>
  static FIREANTS_INLINE Lines lines(const T* const* in, std::index_sequence<K...>) {
    return {{in[K]...}};
  }

  static FIREANTS_INLINE Lines lines(const T* const* in) {
    return lines(in, std::make_index_sequence<kLines>{});
  }

  // sum + at(From, x) + ... + at(To, x)
  template <int From, int To, class At>
  static FIREANTS_INLINE T chain(const At& at, int x, T sum) {
    if constexpr (From > To)
      return sum;
    else
      return chain<From + 1, To>(at, x, sum + at(From, x));
  }

  // out[g][x] = at(g, x) + ... + at(g + 2 R, x)
  template <class At>
  static FIREANTS_INLINE void sums(const At& at, int n, T* const* out) {
    T *o0 = out[0], *o1 = out[1], *o2 = out[2], *o3 = out[3];
#pragma omp simd
    for (int x = 0; x < n; ++x) {
      if constexpr (R == 1) {
        const T low = at(1, x) + at(2, x), high = at(3, x) + at(4, x);
        o0[x] = at(0, x) + low;
        o1[x] = low + at(3, x);
        o2[x] = at(2, x) + high;
        o3[x] = high + at(5, x);
      } else {
        const T l1 = at(2, x), l2 = l1 + at(1, x), l3 = l2 + at(0, x);
        const T shared = chain<4, kTaps - 1>(at, x, at(3, x));
        const T h1 = at(kTaps, x), h2 = h1 + at(kTaps + 1, x);
        o0[x] = shared + l3;
        o1[x] = (shared + l2) + h1;
        o2[x] = (shared + l1) + h2;
        o3[x] = shared + (h2 + at(kTaps + 2, x));
      }
    }
  }
};

// Any weights and any radius: the plain sums.
template <class T>
struct Weighted {
  explicit Weighted(const std::vector<T>& weights)
      : taps_(static_cast<int>(weights.size())), weight_(weights.data()) {}

  void rows(const T* const* in, int n, T* const* out) const {
    for (int g = 0; g < kGroup; ++g)
      for (int x = 0; x < n; x += kPad) {
        T sum[kPad] = {};
        for (int k = 0; k < taps_; ++k) add(weight_[k], in[g + k] + x, sum);
        for (int l = 0; l < kPad; ++l) out[g][x + l] = sum[l];
      }
  }

  void along(const T* in, int n, T* out) const {
    for (int x = 0; x < n; x += kPad) {
      T sum[kPad] = {};
      for (int k = 0; k < taps_; ++k) add(weight_[k], in + x + k, sum);
      for (int l = 0; l < kPad; ++l) out[x + l] = sum[l];
    }
  }

  void products(const T* const* j, const T* const* i, const T* const* w, int n,
                T* const* out) const {
    for (int g = 0; g < kGroup; ++g)
      for (int x = 0; x < n; x += kPad) {
        T s0[kPad] = {}, s1[kPad] = {}, s2[kPad] = {}, s3[kPad] = {}, s4[kPad] = {}, s5[kPad] = {};
        for (int k = 0; k < taps_; ++k) {
          const T *a = j[g + k] + x, *b = i[g + k] + x, *m = w ? w[g + k] + x : nullptr;
          T share[kPad];
#pragma omp simd
          for (int l = 0; l < kPad; ++l) share[l] = m ? weight_[k] * m[l] : weight_[k];
#pragma omp simd
          for (int l = 0; l < kPad; ++l) {
            const T wa = share[l] * a[l], wb = share[l] * b[l];
            s0[l] += wa;
            s1[l] += wa * a[l];
            s2[l] += wb;
            s3[l] += wb * b[l];
            s4[l] += wa * b[l];
            s5[l] += share[l];
          }
        }
        const T* sums[kSums] = {s0, s1, s2, s3, s4, s5};
        for (int f = 0; f < (w ? kSums : kSums - 1); ++f)
          for (int l = 0; l < kPad; ++l) out[f * kGroup + g][x + l] = sums[f][l];
      }
  }

 private:
  static void add(T weight, const T* from, T* sum) {
#pragma omp simd
    for (int l = 0; l < kPad; ++l) sum[l] += weight * from[l];
  }

  int taps_;
  const T* weight_;
};

}  // namespace fireants
