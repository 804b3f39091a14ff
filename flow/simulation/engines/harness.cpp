// Runs one device from reset to done: the memories of flow/engines/base.py around a Verilated model.
// The @PARTS@ are filled in by flow/engines/verilator.py, one line per memory port.

#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>

#include "Vdut.h"
#include "verilated.h"
#if VM_TRACE_VCD
#include "verilated_vcd_c.h"
#endif

double sc_time_stamp() { return 0; }

namespace {

// A memory word of W bits into a port. Verilator wants the unused high bits of a port to be zero.
template <int W, typename T>
void put(T& port, const uint8_t* word) {
    uint64_t value = 0;
    std::memcpy(&value, word, (W + 7) / 8);
    port = static_cast<T>(value & (~uint64_t{0} >> (64 - W)));
}
template <int W, std::size_t N>
void put(VlWide<N>& port, const uint8_t* word) {
    uint32_t* const data = port.data();
    data[N - 1] = 0;
    std::memcpy(data, word, (W + 7) / 8);
    data[N - 1] &= ~uint32_t{0} >> ((32 - W % 32) % 32);
}

template <typename T>
const uint8_t* bytes(const T& port) { return reinterpret_cast<const uint8_t*>(&port); }
template <std::size_t N>
const uint8_t* bytes(const VlWide<N>& port) { return reinterpret_cast<const uint8_t*>(port.data()); }

// Bits [lane * W, lane * W + W) of a port into a memory word.
template <int W>
void take(uint8_t* word, const uint8_t* port, int size, int lane) {
    const int low = lane * W / 8, shift = lane * W % 8;
    for (int i = 0; i < (W + 7) / 8; ++i) {
        unsigned pair = port[low + i];
        if (shift && low + i + 1 < size) pair |= unsigned{port[low + i + 1]} << 8;
        word[i] = static_cast<uint8_t>(pair >> shift);
    }
    if (W % 8) word[(W + 7) / 8 - 1] &= (1 << W % 8) - 1;
}

struct Read {
    const uint8_t* words;
    uint64_t depth;
    const uint8_t* next;  // the word that shows after this edge, if any
};
struct Write {
    uint8_t* words;
    uint64_t depth;
};
struct Failure {
    int64_t port, address;
};

const uint8_t zeros[@ZEROS@] = {};

template <int W>
void sample(Read& memory, bool enable, uint32_t address) {
    const uint8_t* const word = memory.words + address * uint64_t{(W + 7) / 8};
    memory.next = !enable ? nullptr : address < memory.depth ? word : zeros;
}

template <int W, int D, typename V, typename A, typename P>
bool store(const Write& memory, int index, const V& valid, const A& address, const P& data,
           Failure& failure) {
    const uint8_t* const valids = bytes(valid);
    for (int lane = 0; lane < D; ++lane) {
        if (!(valids[lane / 8] >> lane % 8 & 1)) continue;
        uint32_t at;
        std::memcpy(&at, bytes(address) + 4 * lane, 4);
        if (at >= memory.depth) {
            failure = {index, at};
            return false;
        }
        take<W>(memory.words + at * uint64_t{(W + 7) / 8}, bytes(data), sizeof data, lane);
    }
    return true;
}

enum Status { DONE, LIMIT, BEYOND, ERROR };

}  // namespace

// Gives a Status; *cycles is the last edge, *failure the port and address of a write beyond its memory, or the error.
// `waveform` is a VCD file to write, if any, of the `scopes`: a level and a path on each line, as $dumpvars has
// them. Two time steps are one edge: just before it, just after it.
extern "C" __attribute__((visibility("default"))) int bbs_run(
    const uint8_t* const* read_words, const uint64_t* read_depths, uint8_t* const* write_words,
    const uint64_t* write_depths, uint32_t first, uint32_t count, uint64_t limit, uint64_t* cycles,
    Failure* failure, const char* waveform, const char* scopes) {
    VerilatedContext context;
#if VM_TRACE_VCD
    context.traceEverOn(true);
    uint64_t time = 0;
    VerilatedVcdC vcd;
#endif
    Vdut dut{&context, "TOP"};
#if VM_TRACE_VCD
    if (waveform) {
        dut.trace(&vcd, 99);
        std::istringstream lines{scopes};
        int level;
        for (std::string path; lines >> level >> path;) vcd.dumpvars(level, path);
        vcd.open(waveform);
    }
#endif
    const auto show = [&] {
#if VM_TRACE_VCD
        if (waveform) vcd.dump(time++);
#endif
    };
    Read reads[@READS@ + 1];
    Write writes[@WRITES@ + 1];
    for (int i = 0; i < @READS@; ++i) reads[i] = {read_words[i], read_depths[i], nullptr};
    for (int i = 0; i < @WRITES@; ++i) writes[i] = {write_words[i], write_depths[i]};

    dut.clk = 0;
    dut.reset = 1;
    dut.start = 0;
    dut.first = first;
    dut.count = count;
    @CLEAR@
    dut.eval();
    for (int i = 0; i < @RESET_EDGES@; ++i) {
        show();
        dut.clk = 1;
        dut.eval();
        show();
        dut.clk = 0;
        dut.eval();
    }
    dut.reset = 0;
    dut.start = 1;
    dut.eval();

    Status status = LIMIT;
    uint64_t edge = 0;
    while (status == LIMIT && edge < limit) {
        ++edge;
        // What the edge samples, then the edge itself, then what changes after it.
        @SAMPLE@
        @STORE@
        if (status == LIMIT && edge > 1 && dut.done) {
            status = dut.error ? ERROR : DONE;
            if (dut.error) failure->port = dut.error;
        }
        show();
        dut.clk = 1;
        dut.eval();
        show();
        dut.clk = 0;
        dut.start = 0;
        @SHOW@
        dut.eval();
    }
    *cycles = edge;
    show();
    dut.final();
#if VM_TRACE_VCD
    if (waveform) vcd.close();
#endif
    return status;
}
