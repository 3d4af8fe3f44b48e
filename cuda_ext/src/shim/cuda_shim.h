// Runs CUDA kernel text on a CPU, for tests: blocks one after another, the threads of a block as
// fibers that change hands at barriers. It shows wrong indices and wrong sums; it cannot show races.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#define FIREANTS_SHIM 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // in a kernel: of an inline function it is one for all loaded libraries
#define __launch_bounds__(...)
#define __CUDACC__ 1

struct dim3 {
  unsigned x, y, z;
};

namespace shim {

constexpr int kWarp = 32;
constexpr size_t kStack = 256 << 10;

struct Barrier {
  int alive = 0, arrived = 0;
  unsigned turn = 0;
  void open_if_full() {
    if (alive > 0 && arrived == alive) arrived = 0, ++turn;
  }
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  dim3 index;
  bool done = false;
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Barrier> warps;
  std::vector<unsigned long long> slots;
  Barrier all;
  ucontext_t home;
  int current = 0;
  unsigned long long progress = 0;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};

inline Block& block() {
  static Block one;
  return one;
}

}  // namespace shim

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

inline void yield() {
  Block& b = block();
  swapcontext(&b.fibers[b.current]->context, &b.home);
  threadIdx = b.fibers[b.current]->index;
}

inline void wait(Barrier& barrier) {
  const unsigned turn = barrier.turn;
  ++barrier.arrived;
  ++block().progress;
  barrier.open_if_full();
  while (barrier.turn == turn) yield();
}

inline Barrier& own_warp() { return block().warps[block().current / kWarp]; }

inline void enter() {
  Block& b = block();
  threadIdx = b.fibers[b.current]->index;
  b.body(b.argument);
  Barrier& warp = own_warp();
  b.fibers[b.current]->done = true;
  ++b.progress;
  --b.all.alive;
  b.all.open_if_full();
  --warp.alive;
  warp.open_if_full();
  swapcontext(&b.fibers[b.current]->context, &b.home);
}

// All threads of the block with index blockIdx, to their ends.
inline void run_block(int threads) {
  Block& b = block();
  while (static_cast<int>(b.fibers.size()) < threads) b.fibers.emplace_back(new Fiber);
  b.all = Barrier();
  b.all.alive = threads;
  b.warps.assign((threads + kWarp - 1) / kWarp, Barrier());
  b.slots.assign(threads, 0);
  for (int t = 0; t < threads; ++t) {
    Fiber& f = *b.fibers[t];
    ++b.warps[t / kWarp].alive;
    f.done = false;
    f.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = &b.home;
    makecontext(&f.context, enter, 0);
  }
  for (bool some = true; some;) {
    some = false;
    const unsigned long long before = b.progress;
    for (int t = 0; t < threads; ++t) {
      if (b.fibers[t]->done) continue;
      some = true;
      b.current = t;
      swapcontext(&b.home, &b.fibers[t]->context);
    }
    if (some && before == b.progress) {
      std::fprintf(stderr, "shim: the threads of a block wait at different barriers\n");
      std::abort();
    }
  }
}

template <class... Parameters, size_t... I>
void call(void (*kernel)(Parameters...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<Parameters>>*>(arguments[I])...);
}

template <class... Parameters>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 threads, void** arguments) {
  auto body = [&] { call(kernel, arguments, std::index_sequence_for<Parameters...>{}); };
  block().argument = &body;
  block().body = [](void* self) { (*static_cast<decltype(body)*>(self))(); };
  gridDim = grid;
  blockDim = threads;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block(static_cast<int>(threads.x * threads.y * threads.z));
      }
}

}  // namespace shim

#define FIREANTS_KERNEL(name)                                                       \
  extern "C" void shim_##name(const unsigned* grid, const unsigned* threads, void** arguments) { \
    shim::run(name, {grid[0], grid[1], grid[2]}, {threads[0], threads[1], threads[2]}, arguments); \
  }

inline void __syncthreads() { shim::wait(shim::block().all); }
inline void __syncwarp(unsigned = 0xffffffffu) { shim::wait(shim::own_warp()); }

template <class T>
T __shfl_sync(unsigned, T value, int lane, int = shim::kWarp) {
  static_assert(sizeof(T) <= sizeof(unsigned long long), "one register");
  shim::Block& b = shim::block();
  std::memcpy(&b.slots[b.current], &value, sizeof(T));
  shim::wait(shim::own_warp());
  const int first = b.current / shim::kWarp * shim::kWarp, from = first + (lane & 31);
  T out = value;
  if (from < static_cast<int>(b.slots.size())) std::memcpy(&out, &b.slots[from], sizeof(T));
  shim::wait(shim::own_warp());
  return out;
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int = shim::kWarp) {
  return __shfl_sync(mask, value, (shim::block().current % shim::kWarp) ^ bits);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int = shim::kWarp) {
  const int lane = shim::block().current % shim::kWarp;
  return __shfl_sync(mask, value, lane + by < shim::kWarp ? lane + by : lane);
}

template <class T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at += value;
  return old;
}

template <class T>
T atomicMax(T* at, T value) {
  const T old = *at;
  *at = std::max(old, value);
  return old;
}

template <class T>
T __ldg(const T* at) {
  return *at;
}

// What never becomes part of a fused multiply-add.
inline float __fmul_rn(float a, float b) {
  volatile float product = a * b;
  return product;
}

inline double __dmul_rn(double a, double b) {
  volatile double product = a * b;
  return product;
}

inline int __float2int_rn(float value) { return static_cast<int>(std::lrint(value)); }
inline long long __double2ll_rn(double value) { return std::llrint(value); }

using std::exp;
using std::fabs;
using std::floor;
using std::log;
using std::max;
using std::min;
using std::rint;
using std::sqrt;
