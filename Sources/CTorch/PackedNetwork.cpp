// Whole networks without gradients, draw after draw, for predictions: weights lie in the kernels' order, and nothing is allocated from one layer to the next.
#include "PooledConvolution.hpp"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
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
    // Where in the network's memory; of a layer whose outputs are drawn, `bias` is the noise.
    int64_t weight, bias;
    const ct_moments_s *moments;

    int64_t inputCount() const { return inputs; }
    int64_t outputCount() const { return pooled ? pooled->pooledCount() : outputs; }
};

struct Free {
    void operator()(float *numbers) const { std::free(numbers); }
};
using Floats = std::unique_ptr<float, Free>;

// Room for numbers, on the boundaries of vectors. What it holds is not set.
Floats floats(int64_t count, int64_t alignment = 64) {
    const auto bytes = static_cast<size_t>(upTo((count + slack) * static_cast<int64_t>(sizeof(float)), alignment));
    Floats numbers(static_cast<float *>(std::aligned_alloc(static_cast<size_t>(alignment), bytes)));
    TORCH_CHECK(numbers != nullptr, "no memory for ", bytes, " bytes");
    return numbers;
}

// Zeros, in large pages where the system has them: weights are read from end to end by each question.
Floats weights(int64_t count) {
    constexpr int64_t page = 2 << 20;
    const int64_t bytes = (count + slack) * static_cast<int64_t>(sizeof(float)), alignment = bytes >= page / 2 ? page : 64;
    Floats numbers = floats(count, alignment);
#if defined(__linux__)
    if (alignment == page) madvise(numbers.get(), static_cast<size_t>(upTo(bytes, page)), MADV_HUGEPAGE);
#endif
    std::memset(numbers.get(), 0, static_cast<size_t>(bytes));
    return numbers;
}

struct Room {
    std::vector<float> bordered;
    Floats sums;
    int64_t sumCount = 0;
    std::vector<int32_t> places;
};

constexpr int64_t rowsAtOnce = 32;

void grow(std::vector<float> &room, int64_t count) {
    if (static_cast<int64_t>(room.size()) < count + slack) room.resize(static_cast<size_t>(count + slack));
}

void denseRows(
    const Kernels &table, int64_t rows, int64_t inputs, int64_t outputs, const float *x, const float *weight, const float *bias, bool relu, Room &room, float *to) {
    const auto places = static_cast<size_t>(table.placeCount(rows, inputs));
    if (room.places.size() < places) room.places.resize(places);
    table.dense(rows, inputs, outputs, x, weight, bias, relu, room.places.data(), to);
}

// Weights as `dense` reads them, of a layer behind an image [channels, height, width], whose channels lie together there, or behind features.
at::Tensor asRead(const at::Tensor &weight, at::IntArrayRef image) {
    if (image.empty()) return weight.contiguous();
    const auto outputs = weight.size(0);
    return weight.reshape({outputs, image[0], image[1], image[2]}).permute({0, 2, 3, 1}).reshape({outputs, -1}).contiguous();
}

}  // namespace

struct ct_moments_s {
    int64_t inputs, outputs;
    bool isFinite;
    // Given up when the first network is packed.
    mutable at::Tensor mean, bias, variance, biasVariance;
    // Made then: it says what the layer lies behind, for which instructions.
    mutable std::once_flag once;
    mutable std::vector<int64_t> behind;
    mutable const Kernels *packedFor = nullptr;
    mutable Floats packedMean, packedVariance, packedBias, packedBiasVariance;
    // Where slices of the outputs begin, one for each thread that the processor has at most, and where the last ends: each is packed by itself.
    mutable std::vector<int64_t> starts;

    void pack(const Kernels &table, at::IntArrayRef image) const {
        std::call_once(once, [&] {
            const int64_t vectors = upTo(outputs, table.lanes) / table.lanes;
            const int64_t slices = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, vectors);
            for (int64_t slice = 0; slice < slices; ++slice) starts.push_back(vectors * slice / slices * table.lanes);
            starts.push_back(outputs);
            auto fill = [&](at::Tensor &weight, at::Tensor &bias, Floats &to, Floats &biasTo) {
                const auto own = asRead(weight, image);
                to = weights(table.packedCount(outputs, inputs));
                for (int64_t slice = 0; slice < slices; ++slice)
                    table.packDense(own.data_ptr<float>() + starts[slice] * inputs, starts[slice + 1] - starts[slice], inputs, to.get() + starts[slice] * inputs);
                biasTo = weights(upTo(outputs, slack));
                if (bias.defined()) std::memcpy(biasTo.get(), bias.contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(outputs));
                weight = bias = at::Tensor();
            };
            fill(mean, bias, packedMean, packedBias);
            fill(variance, biasVariance, packedVariance, packedBiasVariance);
            behind = image.vec();
            packedFor = &table;
        });
        TORCH_CHECK(packedFor == &table && at::IntArrayRef(behind) == image, "moments that are packed for a layer behind something else");
    }

    int64_t slices() const { return static_cast<int64_t>(starts.size()) - 1; }

    // Means and variances [rows, outputs of the slice] of the outputs of these rows.
    void apply(int64_t slice, int64_t rows, const float *x, const float *squares, Room &room, float *means, float *variances) const {
        const int64_t start = starts[slice], count = starts[slice + 1] - start;
        denseRows(*packedFor, rows, inputs, count, x, packedMean.get() + start * inputs, packedBias.get() + start, false, room, means);
        denseRows(*packedFor, rows, inputs, count, squares, packedVariance.get() + start * inputs, packedBiasVariance.get() + start, false, room, variances);
    }
};

struct ct_packed_s {
    const Kernels &table = kernels();
    std::vector<Stage> stages;
    Floats memory;
    int64_t numbers = 0;

    int64_t outputs() const { return stages.back().outputCount(); }

    bool drawsOutputs() const {
        for (const Stage &s : stages)
            if (s.moments) return true;
        return false;
    }

    void apply(const float *x, int64_t rows, std::vector<float> (&between)[2], Room &room, float *out) const {
        for (size_t index = 0; index < stages.size(); ++index) {
            float *to = out;
            if (index + 1 < stages.size()) grow(between[index % 2], rows * stages[index].outputCount()), to = between[index % 2].data();
            applyStage(stages[index], x, rows, room, to);
            x = to;
        }
    }

    void applyStage(const Stage &s, const float *x, int64_t rows, Room &room, float *to) const {
        const float *weight = memory.get() + s.weight, *bias = memory.get() + s.bias;
        if (s.pooled) convolve(s, x, rows, weight, bias, room, to);
        else denseRows(table, rows, s.inputs, s.outputs, x, weight, bias, s.relu, room, to);
    }

    // Outputs of a layer that draws them, from their means and variances, of `rows` rows from `first` on of `all` that they were found for.
    void draw(const Stage &s, int64_t first, int64_t rows, int64_t all, const float *means, const float *variances, float *to) const {
        const float *noise = memory.get() + s.bias;
        for (int64_t slice = 0; slice < s.moments->slices(); ++slice) {
            const int64_t start = s.moments->starts[slice], count = s.moments->starts[slice + 1] - start;
            for (int64_t row = 0; row < rows; ++row) {
                const int64_t from = all * start + (first + row) * count;
                float *out = to + row * s.outputs + start;
                for (int64_t o = 0; o < count; ++o) {
                    const float y = means[from + o] + noise[start + o] * std::sqrt(variances[from + o]);
                    out[o] = s.relu && y <= 0.0f ? 0.0f : y;
                }
            }
        }
    }

    void convolve(const Stage &s, const float *x, int64_t rows, const float *weight, const float *bias, Room &room, float *to) const {
        const PooledSizes &p = *s.pooled;
        const int64_t sums = 4 * p.g.windows() * upTo(p.g.outputs, table.lanes) + slack;
        if (room.sumCount < sums) room.sums = floats(sums), room.sumCount = sums;
        if (p.padding > 0) room.bordered.assign(static_cast<size_t>(p.paddedCount() + slack), 0.0f);
        for (int64_t row = 0; row < rows; ++row) {
            const float *image = x + row * p.imageCount();
            if (p.padding > 0) p.addBorder(image, room.bordered.data()), image = room.bordered.data();
            table.convolve(p.g, image, s.offsets.data(), weight, room.sums.get());
            table.pool(p.g, room.sums.get(), bias, to + row * p.pooledCount(), nullptr);
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
        Stage s{nullptr, {}, 1, w.size(0), layers[index].relu, 0, 0, layers[index].moments};
        for (auto size : x) s.inputs *= size;
        if (w.scalar_type() != at::kFloat || !w.is_cpu() || (!s.moments && !isFinite(w)) || (layers[index].bias && !isFinite(get(layers[index].bias)))) return false;
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
        if (s.moments) {
            const auto &m = *s.moments;
            TORCH_CHECK(!s.pooled && layers[index].noise && get(layers[index].noise).numel() == s.outputs, "outputs are drawn of dense layers, with noise for each");
            TORCH_CHECK(m.outputs == w.size(0) && m.inputs == w.size(1), "moments of weights [", m.outputs, ", ", m.inputs, "] for a layer ", w.sizes());
            if (!m.isFinite || !isFinite(get(layers[index].noise))) return false;
            numbers = 0;
        }
        s.weight = end;
        s.bias = s.weight + upTo(numbers, slack);
        end = s.bias + upTo(s.outputs, slack) + slack;
        packed.stages.push_back(std::move(s));
    }
    packed.numbers = end;
    return true;
}

void fill(ct_packed_s &packed, const ct_layer *layers, at::IntArrayRef shape) {
    packed.memory = weights(packed.numbers);
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
            if (s.moments) s.moments->pack(packed.table, image);
            else packed.table.packDense(asRead(w, image).data_ptr<float>(), s.outputs, s.inputs, weight);
            image.clear();
        }
        if (s.moments) std::memcpy(bias, get(layers[index].noise).contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.outputs));
        else if (layers[index].bias) std::memcpy(bias, get(layers[index].bias).contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.outputs));
    }
}

// Whether networks draw outputs, all of the same moments.
bool drawsTogether(const ct_packed *networks, int64_t count) {
    bool any = false;
    for (int64_t n = 0; n < count; ++n) any |= networks[n]->drawsOutputs();
    if (!any) return false;
    for (int64_t n = 0; n < count; ++n) {
        TORCH_CHECK(networks[n]->stages.size() == networks[0]->stages.size(), "networks of different shapes");
        for (size_t index = 0; index < networks[n]->stages.size(); ++index)
            TORCH_CHECK(networks[n]->stages[index].moments == networks[0]->stages[index].moments, "networks that draw outputs of different moments");
    }
    return true;
}

// Waits without sleeping: for threads that all have a processor, and for little.
template <typename Condition> void spinUntil(Condition condition) {
    for (int32_t round = 0; !condition(); ++round)
        if (round > 100) std::this_thread::yield();
}

// Does body(thread, threads) on as many threads as wanted, or as the system gives, of which the caller's is one; the others begin with its floating-point state
// and priority. Throws what a body threw.
template <typename Body> void onThreads(int32_t wanted, Body body) {
    std::vector<std::exception_ptr> failures(static_cast<size_t>(wanted));
    // How many there are, once that is known.
    std::atomic<int32_t> threads{0};
    auto part = [&](int32_t thread) {
        spinUntil([&] { return threads.load() > 0; });
        try {
            body(thread, threads.load());
        } catch (...) {
            failures[static_cast<size_t>(thread)] = std::current_exception();
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<size_t>(wanted));
    try {
        for (int32_t thread = 1; thread < wanted; ++thread) helpers.emplace_back(part, thread);
    } catch (const std::system_error &) {
        // Then fewer do all of it.
    }
    threads.store(static_cast<int32_t>(helpers.size()) + 1);
    part(0);
    for (auto &helper : helpers) helper.join();
    for (auto &failure : failures)
        if (failure) std::rethrow_exception(failure);
}

// The stretch of 0 … count that is a thread's.
std::pair<int64_t, int64_t> stretch(int64_t count, int32_t thread, int32_t threads) { return {count * thread / threads, count * (thread + 1) / threads}; }

// Where threads wait for each other.
class Meeting {
    std::atomic<int32_t> waiting{0};
    std::atomic<int64_t> turn{0};

public:
    void wait(int32_t threads) {
        const int64_t now = turn.load();
        if (waiting.fetch_add(1) + 1 < threads) return spinUntil([&] { return turn.load() > now; });
        waiting.store(0);
        turn.store(now + 1);
    }
};

// Networks that draw outputs of the same moments, layer by layer: a layer's moments are read once for all networks and rows at hand, each slice of them by one
// thread; all else of a network is one thread's.
void applyTogether(const ct_packed *networks, int64_t count, const float *x, int64_t rows, int32_t wanted, float *out, int64_t outStride) {
    const auto &first = *networks[0];
    // Each layer has outputs of its own: threads are not all at the same one.
    std::vector<Floats> outputs;
    int64_t inputsMax = 0, outputsMax = 0;
    for (size_t index = 0; index < first.stages.size(); ++index) {
        const Stage &s = first.stages[index];
        outputs.push_back(floats(count * rows * s.outputCount()));
        const int64_t all = index == 0 ? rows : count * rows;
        if (s.moments) inputsMax = std::max(inputsMax, all * s.inputs), outputsMax = std::max(outputsMax, all * s.outputs);
    }
    const Floats squares = floats(inputsMax), means = floats(outputsMax), variances = floats(outputsMax);
    Meeting meeting;
    onThreads(wanted, [&](int32_t thread, int32_t threads) {
        Room room;
        // One that fails goes on to where the others wait for it.
        std::exception_ptr failure;
        auto guarded = [&](auto body) {
            try {
                if (!failure) body();
            } catch (...) {
                failure = std::current_exception();
            }
        };
        const auto [begin, end] = stretch(count, thread, threads);
        // Before the first layer all networks have the same inputs; behind it each its own, network after network.
        const float *from = x;
        for (size_t index = 0; index < first.stages.size(); ++index) {
            const Stage &s = first.stages[index];
            const bool isShared = index == 0, isLast = index + 1 == first.stages.size();
            float *to = isLast ? out : outputs[index].get();
            const int64_t apart = isShared ? 0 : rows * s.inputCount(), stride = isLast ? outStride : rows * s.outputCount();
            if (s.moments) {
                const int64_t all = isShared ? rows : count * rows, numbers = all * s.inputs;
                const auto [firstNumber, endNumber] = isShared ? stretch(numbers, thread, threads) : std::make_pair(begin * apart, end * apart);
                for (int64_t number = firstNumber; number < endNumber; ++number) squares.get()[number] = from[number] * from[number];
                meeting.wait(threads);
                const auto [firstSlice, endSlice] = stretch(s.moments->slices(), thread, threads);
                for (int64_t slice = firstSlice; slice < endSlice; ++slice)
                    guarded([&] {
                        const int64_t at = all * s.moments->starts[slice];
                        s.moments->apply(slice, all, from, squares.get(), room, means.get() + at, variances.get() + at);
                    });
                meeting.wait(threads);
                for (int64_t n = begin; n < end; ++n)
                    networks[n]->draw(networks[n]->stages[index], isShared ? 0 : n * rows, rows, all, means.get(), variances.get(), to + n * stride);
            } else {
                for (int64_t n = begin; n < end; ++n) guarded([&] { networks[n]->applyStage(networks[n]->stages[index], from + n * apart, rows, room, to + n * stride); });
            }
            from = to;
        }
        if (failure) std::rethrow_exception(failure);
    });
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
int64_t ct_packed_bytes(ct_packed packed) { return packed->numbers * static_cast<int64_t>(sizeof(float)); }
int64_t ct_packed_outputs(ct_packed packed) { return packed->outputs(); }
int64_t ct_packed_work(ct_packed packed) {
    int64_t work = 0;
    for (const Stage &s : packed->stages) work += s.pooled ? 4 * s.pooled->g.windows() * s.outputs * s.pooled->g.patch() : (s.moments ? 2 : 1) * s.inputs * s.outputs;
    return work;
}

ct_moments ct_moments_make(ct_tensor mean, ct_tensor bias, ct_tensor variance, ct_tensor biasVariance) {
    return attempt<ct_moments>(nullptr, [&] {
        auto moments = std::make_unique<ct_moments_s>();
        auto own = [](ct_tensor t) { return t ? get(t).to(at::kFloat) : at::Tensor(); };
        moments->mean = own(mean), moments->bias = own(bias), moments->variance = own(variance), moments->biasVariance = own(biasVariance);
        TORCH_CHECK(moments->mean.dim() == 2 && moments->mean.sizes() == moments->variance.sizes(), "moments ", moments->mean.sizes(), " and ", moments->variance.sizes());
        for (const auto *b : {&moments->bias, &moments->biasVariance})
            TORCH_CHECK(!b->defined() || b->numel() == moments->mean.size(0), "a bias ", b->defined() ? b->sizes() : at::IntArrayRef(), " for moments ", moments->mean.sizes());
        moments->outputs = moments->mean.size(0), moments->inputs = moments->mean.size(1);
        moments->isFinite = true;
        for (const auto *t : {&moments->mean, &moments->bias, &moments->variance, &moments->biasVariance}) moments->isFinite &= !t->defined() || isFinite(*t);
        return moments.release();
    });
}

void ct_moments_free(ct_moments moments) { delete moments; }

int32_t ct_apply_packed(const ct_packed *networks, int32_t count, ct_tensor x, int32_t threads, float *out, int64_t outCount) {
    return attempt<int32_t>(-1, [&] {
        const auto &given = get(x);
        TORCH_CHECK(count > 0 && threads > 0 && given.dim() > 0 && given.scalar_type() == at::kFloat, "no networks, or inputs that are not F32 rows");
        const int64_t rows = given.size(0), outputs = networks[0]->outputs(), inputs = networks[0]->stages[0].inputCount();
        TORCH_CHECK(given.numel() == rows * inputs && outCount == count * rows * outputs, "inputs ", given.sizes(), " for a network of ", inputs, " inputs");
        const auto input = given.dim() == 4 ? lastChannels(given) : given.contiguous();
        const float *from = input.data_ptr<float>();
        threads = std::min(threads, count);
        if (drawsTogether(networks, count)) {
            const int64_t some = std::max<int64_t>(1, 4 * rowsAtOnce / count);
            for (int64_t row = 0; row < rows; row += some)
                applyTogether(networks, count, from + row * inputs, std::min(some, rows - row), threads, out + row * outputs, rows * outputs);
            return 0;
        }
        onThreads(threads, [&](int32_t thread, int32_t threads) {
            std::vector<float> between[2];
            Room room;
            const auto [first, last] = stretch(count, thread, threads);
            for (int64_t network = first; network < last; ++network)
                for (int64_t row = 0; row < rows; row += rowsAtOnce)
                    networks[network]->apply(from + row * inputs, std::min(rowsAtOnce, rows - row), between, room, out + (network * rows + row) * outputs);
        });
        return 0;
    });
}
}
