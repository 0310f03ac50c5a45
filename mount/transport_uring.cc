// SPDX-License-Identifier: Apache-2.0
// FUSE over io_uring.
// Specification: Linux' Documentation/filesystems/fuse-io-uring.rst.  The numbers below are those
// of its <linux/fuse.h>, which is newer than the one we build with.
//
// The kernel has a queue for every processor, and a request enters the queue of the processor that
// it was made on.  Each of our threads has a ring with one entry in one queue, so a thread that
// waits for a device delays no second request.  The kernel passes a request to the entry that
// became free last, so one thread with warm caches serves a single client.  FORGET and INTERRUPT
// still arrive through /dev/fuse.
#include <fmt/format.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "device/device.h"
#include "format/layout.h"
#include "mount/request.h"
#include "mount/transport.h"

namespace lcfs::mount {
namespace {

constexpr std::uint32_t kRegister = 1;        // FUSE_IO_URING_CMD_REGISTER
constexpr std::uint32_t kCommitAndFetch = 2;  // FUSE_IO_URING_CMD_COMMIT_AND_FETCH
constexpr unsigned kDefaultThreads = 3;       // per processor
// Before a payload, for the headers, so that a WRITE is contiguous.
constexpr std::size_t kHeadroom = 4096;
// Copied, so that the payload's memory is free for the reply.
constexpr std::size_t kSmallPayload = 4096;

// struct fuse_uring_req_header
struct RingHeader {
  std::byte in_out[128];  // fuse_in_header, then fuse_out_header
  std::byte op_in[128];
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint32_t payload_size;
  std::uint32_t padding;
  std::uint64_t reserved;
};
static_assert(sizeof(RingHeader) == 288);

// struct fuse_uring_cmd_req: byte 48 of the SQE
struct RingCommand {
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint16_t queue;
  std::uint8_t padding[6];
};

// The number of possible processors: one more than the last of "0-3,8"; 1 if it cannot be read.
unsigned possible_processors() {
  std::ifstream file("/sys/devices/system/cpu/possible");
  std::string text;
  if (!(file >> text)) return std::max(1u, std::thread::hardware_concurrency());
  auto const at = text.find_last_of(",-");
  unsigned long const last =
      std::strtoul(text.c_str() + (at == std::string::npos ? 0 : at + 1), nullptr, 10);
  return static_cast<unsigned>(std::min(last, 4095ul)) + 1;
}

class Entry final : public Route {
 public:
  Entry(int fd, unsigned queue) : fd_(fd), queue_(queue) {}
  ~Entry() override {
    if (made_) io_uring_queue_exit(&ring_);
  }

  Status prepare() {
    header_buffer_ = device::AlignedBuffer(format::kBlockSize);
    payload_buffer_ = device::AlignedBuffer(kHeadroom + kMaxData);
    small_ = device::AlignedBuffer(sizeof(RingHeader) + kSmallPayload);
    std::memset(header_buffer_.data(), 0, header_buffer_.size());
    // Only the thread that enables the ring can use it.
    unsigned const flags = IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED;
    int result = io_uring_queue_init(
        2, &ring_, flags | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (result == -EINVAL) result = io_uring_queue_init(2, &ring_, flags);
    if (result < 0) return Error::io("cannot create an io_uring", -result);
    made_ = true;
    return {};
  }

  // The main function of the thread.
  void serve(Transport::Handler const& handler) {
    pin();
    // Not io_uring_enable_rings(): the library of liburing 2.3 does not export it.
    if (io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_ENABLE_RINGS,
                          nullptr, 0) < 0)
      return;
    submit(kRegister);
    for (;;) {
      int const result = io_uring_submit_and_wait(&ring_, 1);
      if (result < 0 && result != -EINTR && result != -EAGAIN) return;
      io_uring_cqe* cqe = nullptr;
      if (io_uring_peek_cqe(&ring_, &cqe) != 0) continue;
      int const code = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (code == -EAGAIN || code == -EINTR) {  // not accepted: offer the entry again
        std::this_thread::yield();
        submit(kRegister);
        continue;
      }
      if (code < 0) return;  // -ENOTCONN: unmounted; others: the kernel uses /dev/fuse
      work(handler);
      submit(kCommitAndFetch);
    }
  }

  ssize_t reply(iovec const* iov, int count) override {
    auto* const payload = payload_buffer_.data() + kHeadroom;
    std::size_t size = 0;
    for (int i = 1; i < count; ++i) {
      if (iov[i].iov_len > kMaxData - size) return -EIO;
      if (iov[i].iov_base != payload + size)
        std::memmove(payload + size, iov[i].iov_base, iov[i].iov_len);
      size += iov[i].iov_len;
    }
    std::memcpy(header().in_out, iov[0].iov_base, sizeof(fuse_out_header));
    header().payload_size = static_cast<std::uint32_t>(size);
    replied_ = true;
    return static_cast<ssize_t>(sizeof(fuse_out_header) + size);
  }

 private:
  RingHeader& header() { return *reinterpret_cast<RingHeader*>(header_buffer_.data()); }

  // Runs on the processor of its clients, so that waking it needs no inter-processor interrupt.
  void pin() const {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(queue_, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set,
                           &set);  // fails if it is offline or not allowed: not pinned then
  }

  void submit(std::uint32_t operation) {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) std::abort();  // impossible: of two entries, at most one is in use
    std::memset(sqe, 0, 2 * sizeof *sqe);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fd_;
    std::memcpy(reinterpret_cast<std::byte*>(sqe) + 8, &operation, sizeof operation);  // cmd_op
    RingCommand command{};
    command.queue = static_cast<std::uint16_t>(queue_);
    if (operation == kRegister) {
      parts_[0] = {header_buffer_.data(), sizeof(RingHeader)};
      parts_[1] = {payload_buffer_.data() + kHeadroom, kMaxData};
      sqe->addr = reinterpret_cast<std::uintptr_t>(parts_);
      sqe->len = 2;
    } else {
      command.commit_id = header().commit_id;
    }
    std::memcpy(reinterpret_cast<std::byte*>(sqe) + 48, &command, sizeof command);
  }

  void work(Transport::Handler const& handler) {
    auto const* const in = reinterpret_cast<fuse_in_header const*>(header().in_out);
    std::size_t const payload = std::min<std::size_t>(header().payload_size, kMaxData);
    std::size_t const head = std::min<std::size_t>(
        in->len - std::min<std::size_t>(in->len, payload), sizeof(fuse_in_header) + 128);
    std::size_t const op = head - std::min(head, sizeof(fuse_in_header));
    auto* const data = payload_buffer_.data() + kHeadroom;
    std::byte* const start =
        payload <= kSmallPayload ? small_.data() : data - sizeof(fuse_in_header) - op;
    std::memcpy(start, header().in_out, sizeof(fuse_in_header));
    std::memcpy(start + sizeof(fuse_in_header), header().op_in, op);
    if (payload <= kSmallPayload) std::memcpy(start + sizeof(fuse_in_header) + op, data, payload);

    Request& request = current_request();
    request = Request{};
    request.route = this;
    request.header = reinterpret_cast<fuse_in_header const*>(start);
    request.message = {start, sizeof(fuse_in_header) + op + payload};
    if (payload <= kSmallPayload) request.room = {data, kMaxData};
    std::uint64_t const unique = request.header->unique;
    replied_ = false;
    handler();
    request = Request{};
    if (!replied_) {  // every request of a ring must have a reply
      fuse_out_header out{sizeof(fuse_out_header), -EIO, unique};
      iovec const part{&out, sizeof out};
      reply(&part, 1);
    }
  }

  int const fd_;
  unsigned const queue_;
  io_uring ring_{};
  bool made_ = false;
  bool replied_ = false;
  device::AlignedBuffer header_buffer_, payload_buffer_, small_;
  iovec parts_[2]{};
};

class UringTransport final : public Transport {
 public:
  UringTransport(int fd, TransportOptions const& options) : fd_(fd), options_(options) {}
  ~UringTransport() override { join(); }

  [[nodiscard]] char const* name() const override { return "uring"; }
  [[nodiscard]] bool over_io_uring() const override { return true; }

  Status prepare() override {
    unsigned const threads = options_.threads == 0 ? kDefaultThreads : options_.threads;
    unsigned const queues = possible_processors();
    for (unsigned queue = 0; queue < queues; ++queue) {
      for (unsigned i = 0; i < threads; ++i) {
        entries_.push_back(std::make_unique<Entry>(fd_, queue));
        LCFS_TRY(entries_.back()->prepare());
      }
    }
    dev_ = make_dev_transport(fd_, {.threads = 2, .clone_fd = false});
    return dev_->prepare();
  }

  Status start(Handler handler) override {
    handler_ = std::move(handler);
    LCFS_TRY(dev_->start(handler_));
    for (auto& entry : entries_)
      threads_.emplace_back([this, e = entry.get()] { e->serve(handler_); });
    return {};
  }

  void join() override {
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    if (dev_) dev_->join();
  }

 private:
  int const fd_;
  TransportOptions const options_;
  Handler handler_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::unique_ptr<Transport> dev_;
  std::vector<std::thread> threads_;
};

}  // namespace

bool uring_enabled() {
  std::ifstream file("/sys/module/fuse/parameters/enable_uring");
  char answer = 'N';
  return file >> answer && (answer == 'Y' || answer == '1');
}

std::unique_ptr<Transport> make_uring_transport(int fd, TransportOptions const& options) {
  return std::make_unique<UringTransport>(fd, options);
}

}  // namespace lcfs::mount
