#include "cpu/pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#ifndef _WIN32
#include <pthread.h>
#endif

namespace fireants {
namespace {

using Work = std::function<void(int64_t, int)>;

class Pool {
 public:
  void run(int64_t pieces, int threads, const Work& work) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    const int helpers = static_cast<int>(std::min<int64_t>(threads, pieces)) - 1;
    if (helpers < 1 || !turn.owns_lock() || !grow(helpers)) {
      for (int64_t k = 0; k < pieces; ++k) work(k, 0);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      pieces_ = pieces;
      next_.store(0, std::memory_order_relaxed);
      wanted_ = busy_ = helpers;
      ++job_;
    }
    wake_.notify_all();
    take(work, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    work_ = nullptr;
  }

 private:
  // Threads are never joined: they wait until the process ends.
  bool grow(int helpers) {
    std::lock_guard<std::mutex> lock(mutex_);
    while (count_ < helpers) {
      const int number = count_ + 1;
      try {
        std::thread([this, number, seen = job_] { serve(number, seen); }).detach();
      } catch (...) {
        return false;
      }
      ++count_;
    }
    return true;
  }

  void serve(int number, uint64_t seen) {
    for (;;) {
      const Work* work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return job_ != seen; });
        seen = job_;
        if (number > wanted_) continue;
        work = work_;
      }
      take(*work, number);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void take(const Work& work, int number) {
    for (;;) {
      const int64_t k = next_.fetch_add(1, std::memory_order_relaxed);
      if (k >= pieces_) return;
      work(k, number);
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  const Work* work_ = nullptr;
  int64_t pieces_ = 0;
  std::atomic<int64_t> next_{0};
  int count_ = 0, wanted_ = 0, busy_ = 0;
  uint64_t job_ = 0;
};

// Never destroyed: detached threads wait on it. After a fork the child has none of the threads
// and starts a pool of its own.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
  Pool* found = current.load(std::memory_order_acquire);
  if (found) return *found;
#ifndef _WIN32
  static std::once_flag once;
  std::call_once(once, [] {
    pthread_atfork(nullptr, nullptr, [] { current.store(nullptr, std::memory_order_release); });
  });
#endif
  Pool* fresh = new Pool;
  if (current.compare_exchange_strong(found, fresh)) return *fresh;
  delete fresh;
  return *found;
}

}  // namespace

void parallel(int64_t pieces, int threads, const Work& work) {
  if (threads <= 1 || pieces <= 1) {
    for (int64_t k = 0; k < pieces; ++k) work(k, 0);
    return;
  }
  pool().run(pieces, threads, work);
}

}  // namespace fireants
