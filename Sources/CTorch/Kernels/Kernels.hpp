// The fused CPU kernels as a table of functions, one table for each instruction set; the widest that the processor has is chosen at run time.
//
// All tables come from one source: Level.hpp is compiled once for each instruction set, in a namespace of its own. Everything here is plain numbers in
// plain memory and knows nothing of libtorch. Kernels use no threads.
#pragma once
#include <cstdint>

namespace ct {

// Floats that may be read beyond the end of a kernel's operands (never used, never written): one vector of the widest kind.
constexpr int64_t slack = 16;

// A convolution of stride 1 whose positions are pooled 2×2, on one padded image with channels together ("channels last"). `run` numbers of a patch's
// row lie together; `high` and `wide` count pooled positions; there are 4 · high · wide positions, window by window.
struct PooledGeometry {
    int64_t channels, line, rows, run, high, wide, outputs;

    int64_t patch() const { return rows * run; }
    int64_t windows() const { return high * wide; }
    // Where the patch of a corner (0 … 3) of a window begins in the image.
    int64_t place(int64_t window, int64_t corner) const {
        return (2 * (window / wide) + corner / 2) * line + (2 * (window % wide) + corner % 2) * channels;
    }
};

// Position of the winner in its window, or `none` where ReLU cut it off.
constexpr uint8_t none = 4;

struct Kernels {
    const char *name;
    // Operations are done by libtorch's own, for comparison; only random numbers come from the kernels.
    bool isReference;
    int64_t lanes;

    // Standard normals at places `first` … of a key: see Normals.hpp.
    void (*normals)(uint64_t high, uint64_t low, uint64_t first, int64_t count, float *out);
};

// The table that the calling thread uses.
const Kernels &kernels();

}  // namespace ct
