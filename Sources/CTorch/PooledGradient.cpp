// The pooled convolution's gradients, block of images by block: at most one position of a window has a gradient, so lists of those places replace matrices
// that would be three quarters zeros. Blocks and lists have one order, so sums have one order too.
#include "PooledGradient.hpp"
#include "PooledConvolution.hpp"

namespace ct {

namespace {

// The images of a block with their borders, one after the other, and their squares.
struct Images {
    std::vector<float> x, squares;
    Images(const PooledSizes &s, int64_t block, bool withSquares) : x(room(block * s.paddedCount())), squares(room(withSquares ? block * s.paddedCount() : 0)) {}

    void take(const PooledSizes &s, const float *images, int64_t count, bool withSquares) {
        for (int64_t index = 0; index < count; ++index) s.addBorder(images + index * s.imageCount(), x.data() + index * s.paddedCount());
        if (withSquares) square(x.data(), count * s.paddedCount(), squares.data());
    }
};

// Where the outputs of a block have a gradient, by output; `capacity` of each.
struct SpotsByOutput {
    std::vector<Spot> spots;
    std::vector<int64_t> counts;
    // Sums of slopes, and of slopes by the variance.
    std::vector<float> slopes, spreads;
    int64_t capacity;
    SpotsByOutput(int64_t outputs, int64_t most)
        : spots(static_cast<size_t>(outputs * most)), counts(static_cast<size_t>(outputs)), slopes(static_cast<size_t>(outputs)),
          spreads(static_cast<size_t>(outputs)), capacity(most) {}

    const Spot *of(int64_t output) const { return spots.data() + output * capacity; }
    void clear() {
        std::fill(counts.begin(), counts.end(), 0);
        std::fill(slopes.begin(), slopes.end(), 0.0f);
        std::fill(spreads.begin(), spreads.end(), 0.0f);
    }

    void sum(const float *slope, const float *rates, const uint8_t *winners) {
        for (size_t o = 0; o < slopes.size(); ++o) slopes[o] += winners[o] == none ? 0.0f : slope[o];
        if (rates == nullptr) return;
        for (size_t o = 0; o < spreads.size(); ++o) spreads[o] += winners[o] == none ? 0.0f : slope[o] * rates[o];
    }

    // Adds an image's; `base` is where it begins among the block's.
    void add(const PooledSizes &s, const float *slope, const float *rates, const uint8_t *winners, int64_t base) {
        for (int64_t window = 0; window < s.g.windows(); ++window) {
            int32_t places[5] = {};
            for (int64_t corner = 0; corner < 4; ++corner) places[corner] = static_cast<int32_t>(base + s.g.place(window, corner));
            const int64_t at = window * s.g.outputs;
            sum(slope + at, rates ? rates + at : nullptr, winners + at);
            for (int64_t o = 0; o < s.g.outputs; ++o) {
                const uint8_t winner = winners[at + o];
                int64_t &count = counts[static_cast<size_t>(o)];
                // Always written, counted only when it is alive: no branch to guess.
                spots[static_cast<size_t>(o * capacity + count)] = {places[winner], slope[at + o], rates ? slope[at + o] * rates[at + o] : 0};
                count += winner != none;
            }
        }
    }
};

// Weights [outputs, patch] with rows that fill whole vectors.
std::vector<float> inVectors(const PooledSizes &s, const at::Tensor &weight) {
    const int64_t width = upTo(s.g.run, kernels().lanes);
    const auto patches = byPatch(weight);
    auto result = room(s.g.outputs * s.g.rows * width);
    for (int64_t row = 0; row < s.g.outputs * s.g.rows; ++row)
        std::memcpy(result.data() + row * width, patches.data_ptr<float>() + row * s.g.run, sizeof(float) * static_cast<size_t>(s.g.run));
    return result;
}

at::Tensor outOfVectors(const PooledSizes &s, const std::vector<float> &sums) {
    const int64_t width = upTo(s.g.run, kernels().lanes);
    auto result = at::empty({s.g.outputs, s.g.patch()}, at::kFloat);
    for (int64_t row = 0; row < s.g.outputs * s.g.rows; ++row)
        std::memcpy(result.data_ptr<float>() + row * s.g.run, sums.data() + row * width, sizeof(float) * static_cast<size_t>(s.g.run));
    return byChannel(result, s.kernel);
}

at::Tensor narrowed(const std::vector<double> &sums) {
    auto result = at::empty({static_cast<int64_t>(sums.size())}, at::kFloat);
    std::copy(sums.begin(), sums.end(), result.data_ptr<float>());
    return result;
}

// One image's gradient, position by position.
struct InputGradient {
    std::vector<float> mean, variance, sums;
    std::vector<Spot> spots;
    std::vector<int64_t> counts;

    InputGradient(const PooledSizes &s, const at::Tensor &weight, const at::Tensor &spread)
        : mean(inVectors(s, weight)), variance(spread.defined() ? inVectors(s, spread) : std::vector<float>()), sums(room(s.paddedCount())),
          spots(static_cast<size_t>(4 * s.pooledCount() + s.g.outputs)), counts(static_cast<size_t>(4 * s.g.windows() + 1)) {}

    void run(const PooledSizes &s, const float *x, const float *slope, const float *rates, const uint8_t *winners, float *out) {
        std::fill(counts.begin(), counts.end(), 0);
        for (int64_t window = 0; window < s.g.windows(); ++window)
            for (int64_t o = 0; o < s.g.outputs; ++o) {
                const int64_t at = window * s.g.outputs + o;
                // What ReLU cut off goes to a place beyond the last, where nobody looks.
                const int64_t position = winners[at] == none ? 4 * s.g.windows() : 4 * window + winners[at];
                int64_t &count = counts[static_cast<size_t>(position)];
                spots[static_cast<size_t>(position * s.g.outputs + count)] = {static_cast<int32_t>(o), slope[at], rates ? slope[at] * rates[at] : 0};
                count += winners[at] != none;
            }
        std::fill(sums.begin(), sums.end(), 0.0f);
        kernels().scatter(s.g, mean.data(), rates ? variance.data() : nullptr, spots.data(), counts.data(), x, sums.data());
        s.removeBorder(sums.data(), out);
    }
};

}  // namespace

PooledGradient pooledGradient(
    const at::Tensor &x, const at::Tensor &weight, const at::Tensor &variance, const at::Tensor &winners, const at::Tensor &rates, const at::Tensor &slope,
    int64_t padding, bool wantsInput, bool wantsWeights) {
    const PooledSizes s(x.sizes(), weight.sizes(), padding);
    const bool noisy = variance.defined();
    const int64_t block = s.block(), width = kernels().patchCount(s.g.rows, s.g.run);
    Images images(s, block, noisy);
    SpotsByOutput lists(s.g.outputs, block * s.g.windows() + 1);
    auto mean = room(s.g.outputs * width), spread = room(noisy ? s.g.outputs * width : 0);
    std::vector<double> bias(static_cast<size_t>(s.g.outputs)), biasSpread(static_cast<size_t>(s.g.outputs));
    PooledGradient result;
    std::unique_ptr<InputGradient> input;
    if (wantsInput) {
        input = std::make_unique<InputGradient>(s, weight, variance);
        result.input = at::empty(x.sizes(), x.options().memory_format(at::MemoryFormat::ChannelsLast));
    }
    for (int64_t start = 0; start < s.images; start += block) {
        const int64_t count = std::min(block, s.images - start);
        images.take(s, x.data_ptr<float>() + start * s.imageCount(), count, noisy);
        lists.clear();
        for (int64_t index = 0; index < count; ++index) {
            const int64_t at = (start + index) * s.pooledCount(), base = index * s.paddedCount();
            const float *g = slope.data_ptr<float>() + at, *r = noisy ? rates.data_ptr<float>() + at : nullptr;
            const uint8_t *won = winners.data_ptr<uint8_t>() + at;
            if (wantsWeights) lists.add(s, g, r, won, base);
            if (wantsInput) input->run(s, images.x.data() + base, g, r, won, result.input.data_ptr<float>() + (start + index) * s.imageCount());
        }
        for (int64_t o = 0; wantsWeights && o < s.g.outputs; ++o) {
            const int64_t spots = lists.counts[static_cast<size_t>(o)];
            kernels().patchSums(s.g, images.x.data(), images.squares.data(), lists.of(o), spots, mean.data() + o * width, noisy ? spread.data() + o * width : nullptr);
            bias[static_cast<size_t>(o)] += lists.slopes[static_cast<size_t>(o)];
            biasSpread[static_cast<size_t>(o)] += lists.spreads[static_cast<size_t>(o)];
        }
    }
    if (!wantsWeights) return result;
    result.weight = outOfVectors(s, mean);
    result.bias = narrowed(bias);
    if (noisy) {
        result.variance = outOfVectors(s, spread);
        result.biasVariance = narrowed(biasSpread);
    }
    return result;
}

PooledSquares pooledSquares(const at::Tensor &x, const at::Tensor &winners, const at::Tensor &slope, int64_t kernel, int64_t padding) {
    const PooledSizes s(x.sizes(), {slope.size(1), x.size(1), kernel, kernel}, padding);
    const int64_t width = kernels().patchCount(s.g.rows, s.g.run);
    Images image(s, 1, false);
    SpotsByOutput lists(s.g.outputs, s.g.windows() + 1);
    auto sums = room(s.g.outputs * width);
    std::vector<double> bias(static_cast<size_t>(s.g.outputs));
    for (int64_t index = 0; index < s.images; ++index) {
        const int64_t at = index * s.pooledCount();
        image.take(s, x.data_ptr<float>() + index * s.imageCount(), 1, false);
        lists.clear();
        lists.add(s, slope.data_ptr<float>() + at, nullptr, winners.data_ptr<uint8_t>() + at, 0);
        for (int64_t o = 0; o < s.g.outputs; ++o) {
            kernels().patchSquares(s.g, image.x.data(), lists.of(o), lists.counts[static_cast<size_t>(o)], sums.data() + o * width);
            const double own = lists.slopes[static_cast<size_t>(o)];
            bias[static_cast<size_t>(o)] += own * own;
        }
    }
    return {outOfVectors(s, sums), narrowed(bias)};
}

}  // namespace ct

extern "C" int32_t ct_pooled_squares(ct_tensor x, ct_tensor winners, ct_tensor slope, int64_t kernel, int64_t padding, ct_tensor *out) {
    using namespace ct;
    return attempt<int32_t>(-1, [&] {
        TORCH_CHECK(get(x).dim() == 4 && get(slope).dim() == 4 && get(slope).numel() == get(winners).numel(), "input ", get(x).sizes(), ", slopes ", get(slope).sizes(), " and winners ", get(winners).sizes());
        auto squares = pooledSquares(lastChannels(get(x)), get(winners), lastChannels(get(slope)), kernel, padding);
        out[0] = wrap(squares.weight);
        out[1] = wrap(squares.bias);
        return 0;
    });
}
