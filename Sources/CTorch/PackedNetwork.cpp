// Whole networks without gradients, draw after draw, for predictions: weights lie in the kernels' order, and nothing is allocated from one layer to the next.
#include "PooledConvolution.hpp"
#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>
#include <thread>
#if defined(__linux__)
#include <sys/mman.h>
#endif

using namespace ct;

namespace {

// One layer: a pooled convolution, or a dense layer.
struct Stage {
    std::unique_ptr<PooledSizes> pooled;
    std::vector<int32_t> offsets;
    int64_t inputs, outputs;
    bool relu;
    // Where in the network's memory.
    int64_t weight, bias;

    int64_t inputCount() const { return inputs; }
    int64_t outputCount() const { return pooled ? pooled->pooledCount() : outputs; }
};

struct Room {
    std::vector<float> bordered, sums;
    std::vector<int32_t> places;
};

constexpr int64_t rowsAtOnce = 32;

}  // namespace

struct ct_packed_s {
    const Kernels &table = kernels();
    std::vector<Stage> stages;
    std::unique_ptr<float, void (*)(void *)> memory{nullptr, std::free};
    int64_t bytes = 0;

    int64_t outputs() const { return stages.back().outputCount(); }

    void apply(const float *x, int64_t rows, std::vector<float> (&between)[2], Room &room, float *out) const {
        for (size_t index = 0; index < stages.size(); ++index) {
            const Stage &s = stages[index];
            float *to = out;
            if (index + 1 < stages.size()) {
                auto &next = between[index % 2];
                if (static_cast<int64_t>(next.size()) < rows * s.outputCount() + slack) next.resize(static_cast<size_t>(rows * s.outputCount() + slack));
                to = next.data();
            }
            const float *weight = memory.get() + s.weight, *bias = memory.get() + s.bias;
            if (s.pooled) {
                convolve(s, x, rows, weight, bias, room, to);
            } else {
                const auto places = static_cast<size_t>(table.placeCount(rows, s.inputs));
                if (room.places.size() < places) room.places.resize(places);
                table.dense(rows, s.inputs, s.outputs, x, weight, bias, s.relu, room.places.data(), to);
            }
            x = to;
        }
    }

    void convolve(const Stage &s, const float *x, int64_t rows, const float *weight, const float *bias, Room &room, float *to) const {
        const PooledSizes &p = *s.pooled;
        const int64_t sums = 4 * p.g.windows() * upTo(p.g.outputs, table.lanes) + slack;
        if (static_cast<int64_t>(room.sums.size()) < sums) room.sums.resize(static_cast<size_t>(sums));
        if (p.padding > 0) room.bordered.assign(static_cast<size_t>(p.paddedCount() + slack), 0.0f);
        for (int64_t row = 0; row < rows; ++row) {
            const float *image = x + row * p.imageCount();
            if (p.padding > 0) p.addBorder(image, room.bordered.data()), image = room.bordered.data();
            table.convolve(p.g, image, s.offsets.data(), weight, room.sums.data());
            table.pool(p.g, room.sums.data(), bias, to + row * p.pooledCount(), nullptr);
        }
    }
};

namespace {

bool isFinite(const at::Tensor &a) { return at::isfinite(a).all().item<bool>(); }

// Stages without memory; false when there are no kernels for a layer.
bool plan(ct_packed_s &packed, const ct_layer *layers, int32_t count, at::IntArrayRef shape) {
    std::vector<int64_t> x = shape.vec();
    int64_t end = 0;
    for (int32_t index = 0; index < count; ++index) {
        const auto &w = get(layers[index].weight);
        Stage s{nullptr, {}, 1, w.size(0), layers[index].relu, 0, 0};
        for (auto size : x) s.inputs *= size;
        if (w.scalar_type() != at::kFloat || !w.is_cpu() || !isFinite(w) || (layers[index].bias && !isFinite(get(layers[index].bias)))) return false;
        int64_t numbers;
        if (w.dim() == 4) {
            if (x.size() != 3) return false;
            s.pooled = std::make_unique<PooledSizes>(at::IntArrayRef({1, x[0], x[1], x[2]}), w.sizes(), layers[index].padding);
            s.offsets = s.pooled->offsets();
            numbers = packed.table.packedCount(s.outputs, s.pooled->g.patch());
            x = {s.outputs, s.pooled->g.high, s.pooled->g.wide};
        } else {
            TORCH_CHECK(w.dim() == 2 && w.size(1) == s.inputs, "weight ", w.sizes(), " for ", s.inputs, " inputs");
            numbers = packed.table.packedCount(s.outputs, s.inputs);
            x = {s.outputs};
        }
        s.weight = end;
        s.bias = s.weight + upTo(numbers, slack);
        end = s.bias + upTo(s.outputs, slack) + slack;
        packed.stages.push_back(std::move(s));
    }
    packed.bytes = end * static_cast<int64_t>(sizeof(float));
    return true;
}

void fill(ct_packed_s &packed, const ct_layer *layers, at::IntArrayRef shape) {
    // Large pages where the system has them: a draw's weights are read from end to end by each question.
    constexpr int64_t page = 2 << 20;
    const int64_t alignment = packed.bytes >= page / 2 ? page : 64;
    const auto size = static_cast<size_t>(upTo(packed.bytes, alignment));
    packed.memory.reset(static_cast<float *>(std::aligned_alloc(static_cast<size_t>(alignment), size)));
    TORCH_CHECK(packed.memory != nullptr, "no memory for ", size, " bytes of weights");
#if defined(__linux__)
    if (alignment == page) madvise(packed.memory.get(), size, MADV_HUGEPAGE);
#endif
    std::memset(packed.memory.get(), 0, size);
    std::vector<int64_t> image;
    if (shape.size() == 3) image = shape.vec();
    for (size_t index = 0; index < packed.stages.size(); ++index) {
        const Stage &s = packed.stages[index];
        const auto &w = get(layers[index].weight);
        float *weight = packed.memory.get() + s.weight, *bias = packed.memory.get() + s.bias;
        if (s.pooled) {
            packed.table.packWeights(byPatch(w).data_ptr<float>(), s.outputs, s.pooled->g.patch(), weight);
            image = {s.outputs, s.pooled->g.high, s.pooled->g.wide};
        } else {
            // What comes from an image has its channels together.
            auto own = w;
            if (!image.empty()) own = w.reshape({s.outputs, image[0], image[1], image[2]}).permute({0, 2, 3, 1}).reshape({s.outputs, -1});
            own = own.contiguous();
            packed.table.packDense(own.data_ptr<float>(), s.outputs, s.inputs, weight);
            image.clear();
        }
        if (layers[index].bias) std::memcpy(bias, get(layers[index].bias).contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.outputs));
    }
}

// Does body(first, last) for stretches of 0 … count on as many threads, of which the caller's is one; the others begin with its floating-point state and
// priority. Throws what a body threw.
template <typename Body> void shareOut(int32_t count, int32_t threads, Body body) {
    std::vector<std::exception_ptr> failures(static_cast<size_t>(threads));
    auto part = [&](int32_t thread) {
        try {
            body(static_cast<int32_t>(int64_t{count} * thread / threads), static_cast<int32_t>(int64_t{count} * (thread + 1) / threads));
        } catch (...) {
            failures[static_cast<size_t>(thread)] = std::current_exception();
        }
    };
    struct Helpers {
        std::vector<std::thread> list;
        ~Helpers() {
            for (auto &thread : list) thread.join();
        }
    };
    {
        Helpers helpers;
        helpers.list.reserve(static_cast<size_t>(threads));
        for (int32_t thread = 1; thread < threads; ++thread) helpers.list.emplace_back(part, thread);
        part(0);
    }
    for (auto &failure : failures)
        if (failure) std::rethrow_exception(failure);
}

}  // namespace

extern "C" {

int32_t ct_pack(const ct_layer *layers, int32_t count, const int64_t *sizes, int32_t dims, ct_packed *out) {
    *out = nullptr;
    return attempt<int32_t>(-1, [&] {
        auto packed = std::make_unique<ct_packed_s>();
        if (count == 0 || packed->table.isReference || !plan(*packed, layers, count, shape(sizes, dims))) return 0;
        fill(*packed, layers, shape(sizes, dims));
        *out = packed.release();
        return 0;
    });
}

void ct_packed_free(ct_packed packed) { delete packed; }
int64_t ct_packed_bytes(ct_packed packed) { return packed->bytes; }
int64_t ct_packed_outputs(ct_packed packed) { return packed->outputs(); }

int32_t ct_apply_packed(const ct_packed *networks, int32_t count, ct_tensor x, int32_t threads, float *out, int64_t outCount) {
    return attempt<int32_t>(-1, [&] {
        const auto &given = get(x);
        TORCH_CHECK(count > 0 && threads > 0 && given.dim() > 0 && given.scalar_type() == at::kFloat, "no networks, or inputs that are not F32 rows");
        const int64_t rows = given.size(0), outputs = networks[0]->outputs(), inputs = networks[0]->stages[0].inputCount();
        TORCH_CHECK(given.numel() == rows * inputs && outCount == count * rows * outputs, "inputs ", given.sizes(), " for a network of ", inputs, " inputs");
        const auto input = given.dim() == 4 ? lastChannels(given) : given.contiguous();
        const float *from = input.data_ptr<float>();
        shareOut(count, std::min(threads, count), [&](int32_t first, int32_t last) {
            std::vector<float> between[2];
            Room room;
            for (int32_t network = first; network < last; ++network)
                for (int64_t row = 0; row < rows; row += rowsAtOnce)
                    networks[network]->apply(from + row * inputs, std::min(rowsAtOnce, rows - row), between, room, out + (network * rows + row) * outputs);
        });
        return 0;
    });
}
}
