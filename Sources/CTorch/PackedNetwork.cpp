// Whole networks without gradients, draw after draw, for predictions: weights lie in the kernels' order, and nothing is allocated from one layer to the next.
#include "PooledConvolution.hpp"
#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
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

struct Room {
    std::vector<float> bordered, sums, means, squares, variances;
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
    at::Tensor mean, bias, variance, biasVariance;
    bool isFinite;
    // Made when the first network is packed: it says what the layer lies behind, for which instructions.
    mutable std::once_flag once;
    mutable std::vector<int64_t> behind;
    mutable const Kernels *packedFor = nullptr;
    mutable std::vector<float> packedMean, packedVariance, packedBias, packedBiasVariance;

    void pack(const Kernels &table, at::IntArrayRef image) const {
        std::call_once(once, [&] {
            auto fill = [&](const at::Tensor &weight, const at::Tensor &bias, std::vector<float> &to, std::vector<float> &biasTo) {
                const auto own = asRead(weight, image);
                to.assign(static_cast<size_t>(table.packedCount(own.size(0), own.size(1)) + slack), 0.0f);
                table.packDense(own.data_ptr<float>(), own.size(0), own.size(1), to.data());
                biasTo.assign(static_cast<size_t>(upTo(own.size(0), slack) + slack), 0.0f);
                if (bias.defined()) std::memcpy(biasTo.data(), bias.contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(own.size(0)));
            };
            fill(mean, bias, packedMean, packedBias);
            fill(variance, biasVariance, packedVariance, packedBiasVariance);
            behind = image.vec();
            packedFor = &table;
        });
        TORCH_CHECK(packedFor == &table && at::IntArrayRef(behind) == image, "moments that are packed for a layer behind something else");
    }

    // Means and variances of the outputs of these rows.
    void apply(const Kernels &table, int64_t rows, int64_t inputs, const float *x, Room &room, float *means) const {
        const int64_t outputs = mean.size(0);
        denseRows(table, rows, inputs, outputs, x, packedMean.data(), packedBias.data(), false, room, means);
        grow(room.squares, rows * inputs);
        for (int64_t index = 0; index < rows * inputs; ++index) room.squares[static_cast<size_t>(index)] = x[index] * x[index];
        grow(room.variances, rows * outputs);
        denseRows(table, rows, inputs, outputs, room.squares.data(), packedVariance.data(), packedBiasVariance.data(), false, room, room.variances.data());
    }
};

struct ct_packed_s {
    const Kernels &table = kernels();
    std::vector<Stage> stages;
    std::unique_ptr<float, void (*)(void *)> memory{nullptr, std::free};
    int64_t bytes = 0;

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

    // Outputs of a layer that draws them, from their means and variances.
    void draw(const Stage &s, int64_t rows, const float *means, const float *variances, float *to) const {
        const float *noise = memory.get() + s.bias;
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t o = 0; o < s.outputs; ++o) {
                const int64_t at = row * s.outputs + o;
                const float y = means[at] + noise[o] * std::sqrt(variances[at]);
                to[at] = s.relu && y <= 0.0f ? 0.0f : y;
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
            TORCH_CHECK(m.mean.sizes() == w.sizes(), "moments of weights ", m.mean.sizes(), " for a layer ", w.sizes());
            if (!m.isFinite || !isFinite(get(layers[index].noise))) return false;
            numbers = 0;
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
            if (s.moments) s.moments->pack(packed.table, image);
            else packed.table.packDense(asRead(w, image).data_ptr<float>(), s.outputs, s.inputs, weight);
            image.clear();
        }
        if (s.moments) std::memcpy(bias, get(layers[index].noise).contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.outputs));
        else if (layers[index].bias) std::memcpy(bias, get(layers[index].bias).contiguous().data_ptr<float>(), sizeof(float) * static_cast<size_t>(s.outputs));
    }
}

// Networks that draw outputs of the same moments, layer by layer: what a layer's moments are is read once for all networks and rows at hand.
void applyTogether(const ct_packed *networks, int64_t count, const float *x, int64_t rows, std::vector<float> (&between)[2], Room &room, float *out, int64_t outStride) {
    const auto &first = *networks[0];
    // Before the first layer all networks have the same inputs; behind it each its own, network after network.
    const float *from = x;
    bool isShared = true;
    for (size_t index = 0; index < first.stages.size(); ++index) {
        const Stage &s = first.stages[index];
        const bool isLast = index + 1 == first.stages.size();
        const int64_t size = s.outputCount();
        float *to = out;
        int64_t stride = outStride;
        if (!isLast) stride = rows * size, grow(between[index % 2], count * stride), to = between[index % 2].data();
        const int64_t apart = isShared ? 0 : rows * s.inputCount();
        if (s.moments) {
            const int64_t all = isShared ? rows : count * rows;
            grow(room.means, all * size);
            s.moments->apply(first.table, all, s.inputs, from, room, room.means.data());
            for (int64_t n = 0; n < count; ++n) {
                const int64_t start = isShared ? 0 : n * rows * size;
                networks[n]->draw(networks[n]->stages[index], rows, room.means.data() + start, room.variances.data() + start, to + n * stride);
            }
        } else {
            for (int64_t n = 0; n < count; ++n) networks[n]->applyStage(networks[n]->stages[index], from + n * apart, rows, room, to + n * stride);
        }
        from = to;
        isShared = false;
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
        shareOut(count, std::min(threads, count), [&](int32_t first, int32_t last) {
            std::vector<float> between[2];
            Room room;
            if (last > first && drawsTogether(networks + first, last - first)) {
                const int64_t some = std::max<int64_t>(1, 2 * rowsAtOnce / (last - first));
                for (int64_t row = 0; row < rows; row += some)
                    applyTogether(
                        networks + first, last - first, from + row * inputs, std::min(some, rows - row), between, room, out + (first * rows + row) * outputs, rows * outputs);
                return;
            }
            for (int32_t network = first; network < last; ++network)
                for (int64_t row = 0; row < rows; row += rowsAtOnce)
                    networks[network]->apply(from + row * inputs, std::min(rowsAtOnce, rows - row), between, room, out + (network * rows + row) * outputs);
        });
        return 0;
    });
}
}
