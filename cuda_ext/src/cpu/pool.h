// A pool of threads that take the pieces of a job one by one (a static share halves the speed
// when another program holds one core).
#pragma once
#include <cstdint>
#include <functional>

namespace fireants {

// Calls work(piece, worker) for every piece in [0, pieces) on at most `threads` threads, the
// caller among them; worker in [0, threads). Returns when all are done. A caller that finds the
// pool at work for somebody else does its pieces alone. `work` must not throw.
void parallel(int64_t pieces, int threads, const std::function<void(int64_t, int)>& work);

}  // namespace fireants
