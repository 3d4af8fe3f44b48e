// The vote at one place of a label map, shared by the CPU library and the CUDA kernels.
#pragma once
#include "core.h"
#include "shapes.h"

namespace fireants {

// The label with the largest sum of weights; of those within 1e-6 of it the smallest.
template <class T, class Label, int N>
FIREANTS_HD Label elected(const Label (&label)[N], const T (&weight)[N]) {
  T total[N], top = T(0);
  for (int j = 0; j < N; ++j) {
    total[j] = T(0);
    for (int k = 0; k < N; ++k) total[j] += label[k] == label[j] ? weight[k] : T(0);
    top = total[j] > top ? total[j] : top;
  }
  Label best = label[0];
  bool found = false;
  for (int j = 0; j < N; ++j) {
    if (!(total[j] >= top - T(1e-6)) || (found && label[j] >= best)) continue;
    best = label[j];
    found = true;
  }
  return best;
}

// coords: of the place, s.samples from one axis to the next. Beyond the border the outermost labels
// go on; a NaN counts as 0.
template <class T, class Label, int D>
FIREANTS_HD Label vote(const LabelShape& s, const Label* labels, const T* coords) {
  constexpr int N = 1 << D;
  Place<T> place[D];
  int64_t base = 0, up[D], stride = 1;
  for (int a = D - 1; a >= 0; --a) {
    const int n = static_cast<int>(s.size[a + 3 - D]);
    place[a] = place_border(coords[a * s.samples], n);
    base += place[a].at * stride;
    up[a] = place[a].up * stride;
    stride *= n;
  }
  Label label[N];
  bool mixed = false;
  for (int k = 0; k < N; ++k) {
    int64_t at = base;
    for (int a = 0; a < D; ++a) at += k >> a & 1 ? up[a] : 0;
    label[k] = labels[at];
    mixed = mixed || label[k] != label[0];
  }
  if (!mixed) return label[0];
  T weight[N];
  for (int k = 0; k < N; ++k) {
    weight[k] = T(1);
    for (int a = 0; a < D; ++a) weight[k] *= k >> a & 1 ? place[a].w1 : place[a].w0;
  }
  return elected(label, weight);
}

}  // namespace fireants
