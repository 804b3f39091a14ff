// Runs the accelerator behind AXI from reset to done, with a memory that has a latency: what bench/bus.py measures.

#include <cstdint>
#include <cstring>
#include <deque>

#include "Vdut.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

constexpr int BEAT = BEAT_BYTES;

template <typename T>
void put(T& port, const uint8_t* data) { std::memcpy(&port, data, BEAT); }
template <std::size_t N>
void put(VlWide<N>& port, const uint8_t* data) { std::memcpy(port.data(), data, BEAT); }
template <typename T>
const uint8_t* octets(const T& port) { return reinterpret_cast<const uint8_t*>(&port); }
template <std::size_t N>
const uint8_t* octets(const VlWide<N>& port) { return reinterpret_cast<const uint8_t*>(port.data()); }

struct Burst {
    uint64_t address, beats, ready;  // the first edge after which its first beat may show, or it is answered
    unsigned id;
};

// The beats of one direction: as often as `bytes` an edge are a beat.
struct Pace {
    uint64_t bytes, due = 0;

    explicit Pace(uint64_t bandwidth) : bytes(bandwidth < BEAT ? bandwidth : BEAT) {}
    bool ready(uint64_t edge) const { return edge * bytes >= due; }
    void beat(uint64_t edge) { due = (edge * bytes - due < bytes ? due : edge * bytes) + BEAT; }
};

struct Timing {
    uint64_t latency, bandwidth, outstanding;
};

struct Counts {
    uint64_t edges, read_beats[16], read_bursts[16], write_beats, write_bursts;
};

// Clock, both buses; a burst's data come `latency` edges after its address was taken, the oldest burst's first.
class Bench {
public:
    Bench(uint8_t* memory, uint64_t size, Timing timing, Counts* counts)
        : memory_(memory), size_(size), latency_(timing.latency), outstanding_(timing.outstanding),
          reading_(timing.bandwidth), writing_(timing.bandwidth), counts_(counts) {
        dut.aclk = 0, dut.aresetn = 0;
        dut.s_axil_awvalid = dut.s_axil_wvalid = dut.s_axil_arvalid = 0;
        dut.s_axil_bready = dut.s_axil_rready = 1;
        dut.s_axil_wstrb = 15;
        dut.m_axi_bid = 0, dut.m_axi_bresp = dut.m_axi_rresp = 0;
        dut.m_axi_arready = dut.m_axi_awready = dut.m_axi_wready = 1;
        dut.m_axi_rvalid = dut.m_axi_bvalid = 0;
        dut.eval();
        for (int i = 0; i < 4; ++i) step();
        dut.aresetn = 1;
    }

    void write(uint32_t at, uint32_t value) {
        dut.s_axil_awaddr = at, dut.s_axil_wdata = value;
        dut.s_axil_awvalid = dut.s_axil_wvalid = 1;
        bool taken = false;
        while (!taken) {
            dut.eval();
            taken = dut.s_axil_awready;
            step();
        }
        dut.s_axil_awvalid = dut.s_axil_wvalid = 0;
        dut.eval();
        while (!dut.s_axil_bvalid) step();
    }

    uint32_t read(uint32_t at) {
        dut.s_axil_araddr = at;
        dut.s_axil_arvalid = 1;
        bool taken = false;
        while (!taken) {
            dut.eval();
            taken = dut.s_axil_arready;
            step();
        }
        dut.s_axil_arvalid = 0;
        dut.eval();
        while (!dut.s_axil_rvalid) step();
        return dut.s_axil_rdata;
    }

    bool finish(uint64_t limit) {
        for (uint64_t i = 0; i < limit && !dut.irq && !bad_; ++i) step();
        return dut.irq && !bad_;
    }

private:
    void step() {
        dut.eval();
        const bool r = dut.m_axi_rvalid, b = dut.m_axi_bvalid;
        if (dut.m_axi_arvalid && dut.m_axi_arready) {
            reads_.push_back({dut.m_axi_araddr, dut.m_axi_arlen + 1u, edge_ + latency_, dut.m_axi_arid});
            ++counts_->read_bursts[dut.m_axi_arid];
        }
        if (dut.m_axi_awvalid && dut.m_axi_awready) {
            writes_.push_back({dut.m_axi_awaddr, dut.m_axi_awlen + 1u, 0, 0});
            ++counts_->write_bursts;
        }
        if (dut.m_axi_wvalid && dut.m_axi_wready) {
            if (writes_.empty()) {
                bad_ = true;  // this memory takes an address no later than its data
                return;
            }
            Burst& burst = writes_.front();
            const uint8_t *data = octets(dut.m_axi_wdata), *strobes = octets(dut.m_axi_wstrb);
            for (int i = 0; i < BEAT; ++i)
                if (strobes[i / 8] >> i % 8 & 1) {
                    if (burst.address + i >= size_) bad_ = true;
                    else memory_[burst.address + i] = data[i];
                }
            burst.address += BEAT;
            writing_.beat(edge_);
            ++counts_->write_beats;
            if ((--burst.beats == 0) != bool(dut.m_axi_wlast)) bad_ = true;
            if (!burst.beats) {
                answers_.push_back(edge_ + latency_);
                writes_.pop_front();
            }
        }
        if (r) {
            ++counts_->read_beats[dut.m_axi_rid];
            if (dut.m_axi_rlast) reads_.pop_front();
        }
        if (b) answers_.pop_front();
        dut.aclk = 1;
        dut.eval();
        dut.aclk = 0;
        dut.m_axi_rvalid = !reads_.empty() && edge_ >= reads_.front().ready && reading_.ready(edge_ + 1);
        if (dut.m_axi_rvalid) {
            Burst& burst = reads_.front();
            if (burst.address + BEAT > size_) bad_ = true;
            else put(dut.m_axi_rdata, memory_ + burst.address);
            burst.address += BEAT;
            reading_.beat(edge_ + 1);
            dut.m_axi_rid = burst.id;
            dut.m_axi_rlast = --burst.beats == 0;
        }
        dut.m_axi_bvalid = !answers_.empty() && edge_ >= answers_.front();
        dut.m_axi_arready = !outstanding_ || reads_.size() < outstanding_;
        dut.m_axi_awready = !outstanding_ || writes_.size() + answers_.size() < outstanding_;
        dut.m_axi_wready = (dut.m_axi_awready || !writes_.empty()) && writing_.ready(edge_ + 1);
        ++edge_;
        ++counts_->edges;
        dut.eval();
    }

    VerilatedContext context_;
    Vdut dut{&context_, "TOP"};
    uint8_t* memory_;
    uint64_t size_, latency_, outstanding_, edge_ = 0;
    Pace reading_, writing_;
    bool bad_ = false;
    Counts* counts_;
    std::deque<Burst> reads_, writes_;
    std::deque<uint64_t> answers_;
};

}  // namespace

// Writes registers, waits for the interrupt, reads registers; 0 if it came and the bus was used by its rules.
extern "C" __attribute__((visibility("default"))) int bbs_bus(
    uint8_t* memory, uint64_t size, uint64_t latency, uint64_t bandwidth, uint64_t outstanding, const uint32_t* writes,
    uint64_t written, const uint32_t* reads, uint64_t read, uint32_t* values, uint64_t limit, Counts* counts) {
    *counts = Counts{};
    Bench bench{memory, size, {latency, bandwidth, outstanding}, counts};
    for (uint64_t i = 0; i < written; ++i) bench.write(writes[2 * i], writes[2 * i + 1]);
    if (!bench.finish(limit)) return 1;
    for (uint64_t i = 0; i < read; ++i) values[i] = bench.read(reads[i]);
    return 0;
}
