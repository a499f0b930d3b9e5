// Convolution, 2×2 max-pooling and ReLU as one operation with its own gradient.
//
// Patches are rows whose channels lie together, so unfolding is a few copies a row, and the convolution is one matrix product a block of images. The
// four positions of a pooling window are neighbours among those rows: pooling, bias and ReLU read the product once, while it is in the cache, and only
// the pooled values and which position won are kept. Images are blocked in a fixed order, so sums have one order too.
#include "Failure.hpp"
#include <algorithm>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>

using namespace ct;

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Position of the winner in its window, or `none` where ReLU cut it off.
constexpr uint8_t none = 4;
constexpr int64_t blockBytes = 1 << 20;

// Sizes of one call; `high` and `wide` count pooled positions, `k` the numbers of a patch.
struct Sizes {
    int64_t images, channels, height, width, outputs, kernel, padding, high, wide, k, positions, block;

    Sizes(at::IntArrayRef x, at::IntArrayRef weight, int64_t pad) {
        TORCH_CHECK(x.size() == 4 && weight.size() == 4 && x[1] == weight[1] && weight[2] == weight[3], "input ", x, " and weight ", weight, " do not fit");
        images = x[0], channels = x[1], height = x[2], width = x[3], outputs = weight[0], kernel = weight[2], padding = pad;
        high = (height + 2 * padding - kernel + 1) / 2, wide = (width + 2 * padding - kernel + 1) / 2;
        TORCH_CHECK(high > 0 && wide > 0, "input ", x, " is too small for weight ", weight, " and a 2x2 window");
        k = kernel * kernel * channels, positions = 4 * high * wide;
        block = std::max<int64_t>(1, std::min(images, blockBytes / (positions * k * static_cast<int64_t>(sizeof(float)))));
    }
    int64_t paddedWidth() const { return width + 2 * padding; }
    int64_t paddedCount() const { return (height + 2 * padding) * paddedWidth() * channels; }

    // Calls body(patch, image offset) for every run of kernel · channels neighbours, patch after patch.
    template <typename Body> void eachRun(Body body) const {
        const int64_t run = kernel * channels, line = paddedWidth() * channels;
        int64_t patch = 0;
        for (int64_t y = 0; y < high; ++y)
            for (int64_t x = 0; x < wide; ++x)
                for (int64_t corner = 0; corner < 4; ++corner, patch += k)
                    for (int64_t row = 0; row < kernel; ++row)
                        body(patch + row * run, (2 * y + corner / 2 + row) * line + (2 * x + corner % 2) * channels, run);
    }
};

// The image with zeros around it; the image itself without padding.
const float *padded(const Sizes &s, const float *image, std::vector<float> &space) {
    if (s.padding == 0) return image;
    space.assign(static_cast<size_t>(s.paddedCount()), 0);
    const int64_t line = s.width * s.channels;
    for (int64_t y = 0; y < s.height; ++y)
        std::memcpy(&space[static_cast<size_t>(((y + s.padding) * s.paddedWidth() + s.padding) * s.channels)], image + y * line, sizeof(float) * line);
    return space.data();
}

void unfold(const Sizes &s, const float *images, int64_t count, float *patches) {
    std::vector<float> space;
    for (int64_t index = 0; index < count; ++index) {
        const float *image = padded(s, images + index * s.height * s.width * s.channels, space);
        float *out = patches + index * s.positions * s.k;
        s.eachRun([&](int64_t patch, int64_t from, int64_t run) { std::memcpy(out + patch, image + from, sizeof(float) * run); });
    }
}

void fold(const Sizes &s, const float *patches, int64_t count, float *images) {
    std::vector<float> space(static_cast<size_t>(s.padding > 0 ? s.paddedCount() : 0));
    const int64_t line = s.width * s.channels;
    for (int64_t index = 0; index < count; ++index) {
        float *image = images + index * s.height * line, *sum = s.padding > 0 ? space.data() : image;
        std::fill_n(sum, s.paddedCount(), 0.0f);
        const float *in = patches + index * s.positions * s.k;
        s.eachRun([&](int64_t patch, int64_t to, int64_t run) {
            for (int64_t at = 0; at < run; ++at) sum[to + at] += in[patch + at];
        });
        if (s.padding > 0)
            for (int64_t y = 0; y < s.height; ++y)
                std::memcpy(image + y * line, sum + ((y + s.padding) * s.paddedWidth() + s.padding) * s.channels, sizeof(float) * line);
    }
}

// One window: the largest of four rows of outputs plus bias, cut at zero. A value that is not a number wins and stays.
void pool(const float *rows, const float *bias, int64_t outputs, float *out, uint8_t *winner) {
    for (int64_t o = 0; o < outputs; ++o) {
        float best = rows[o];
        uint8_t place = 0;
        for (int64_t corner = 1; corner < 4; ++corner) {
            const float value = rows[corner * outputs + o];
            const bool larger = value > best || value != value;
            best = larger ? value : best;
            place = larger ? static_cast<uint8_t>(corner) : place;
        }
        best += bias[o];
        const bool dead = best <= 0;
        out[o] = dead ? 0.0f : best;
        winner[o] = dead ? none : place;
    }
}

// The gradient of one window's four rows: the slope where the winner stood, zeros elsewhere.
void unpool(const float *slope, const uint8_t *winner, int64_t outputs, float *rows, float *bias) {
    std::memset(rows, 0, sizeof(float) * 4 * static_cast<size_t>(outputs));
    for (int64_t o = 0; o < outputs; ++o) {
        if (winner[o] == none) continue;
        rows[winner[o] * outputs + o] = slope[o];
        bias[o] += slope[o];
    }
}

at::Tensor lastChannels(const at::Tensor &a) { return a.contiguous(at::MemoryFormat::ChannelsLast); }

struct ConvolutionPool : torch::autograd::Function<ConvolutionPool> {
    static at::Tensor forward(AutogradContext *context, const at::Tensor &input, const at::Tensor &weight, const at::Tensor &bias, int64_t padding) {
        const Sizes s(input.sizes(), weight.sizes(), padding);
        const auto x = lastChannels(input), w = weight.permute({0, 2, 3, 1}).reshape({s.outputs, s.k}).contiguous(), b = bias.contiguous();
        auto y = at::empty({s.images, s.outputs, s.high, s.wide}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
        auto winners = at::empty({s.images, s.high, s.wide, s.outputs}, x.options().dtype(at::kByte));
        auto patches = at::empty({s.block * s.positions, s.k}, x.options()), product = at::empty({s.block * s.positions, s.outputs}, x.options());
        const int64_t windows = s.high * s.wide;
        for (int64_t start = 0; start < s.images; start += s.block) {
            const int64_t count = std::min(s.block, s.images - start);
            unfold(s, x.data_ptr<float>() + start * s.height * s.width * s.channels, count, patches.data_ptr<float>());
            auto out = product.narrow(0, 0, count * s.positions);
            at::mm_out(out, patches.narrow(0, 0, count * s.positions), w.t());
            const int64_t first = start * windows * s.outputs;
            for (int64_t window = 0; window < count * windows; ++window)
                pool(product.data_ptr<float>() + 4 * window * s.outputs, b.data_ptr<float>(), s.outputs, y.data_ptr<float>() + first + window * s.outputs,
                     winners.data_ptr<uint8_t>() + first + window * s.outputs);
        }
        context->save_for_backward({x, w, winners});
        context->saved_data["padding"] = padding;
        context->saved_data["kernel"] = s.kernel;
        context->saved_data["input"] = input.requires_grad();
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list slopes) {
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &w = saved[1], &winners = saved[2];
        const int64_t kernel = context->saved_data["kernel"].toInt();
        const int64_t outputs = w.size(0), channels = x.size(1);
        const Sizes s(x.sizes(), {outputs, channels, kernel, kernel}, context->saved_data["padding"].toInt());
        const bool wantsInput = context->saved_data["input"].toBool();
        const auto slope = lastChannels(slopes[0]);
        auto dw = at::zeros({s.outputs, s.k}, x.options());
        auto dx = wantsInput ? at::empty(x.sizes(), x.options().memory_format(at::MemoryFormat::ChannelsLast)) : at::Tensor();
        auto patches = at::empty({s.block * s.positions, s.k}, x.options()), rows = at::empty({s.block * s.positions, s.outputs}, x.options());
        // Sums over a block in Float32, over blocks in Float64.
        std::vector<double> bias(static_cast<size_t>(s.outputs));
        std::vector<float> blockBias(static_cast<size_t>(s.outputs));
        const int64_t windows = s.high * s.wide, pixels = s.height * s.width * s.channels;
        for (int64_t start = 0; start < s.images; start += s.block) {
            const int64_t count = std::min(s.block, s.images - start), first = start * windows * s.outputs;
            for (int64_t window = 0; window < count * windows; ++window) {
                const int64_t at = first + window * s.outputs;
                unpool(slope.data_ptr<float>() + at, winners.data_ptr<uint8_t>() + at, s.outputs, rows.data_ptr<float>() + 4 * window * s.outputs, blockBias.data());
            }
            for (int64_t o = 0; o < s.outputs; ++o) bias[static_cast<size_t>(o)] += blockBias[static_cast<size_t>(o)];
            std::fill(blockBias.begin(), blockBias.end(), 0.0f);
            const auto d = rows.narrow(0, 0, count * s.positions);
            auto p = patches.narrow(0, 0, count * s.positions);
            unfold(s, x.data_ptr<float>() + start * pixels, count, patches.data_ptr<float>());
            dw.addmm_(d.t(), p);
            if (!wantsInput) continue;
            at::mm_out(p, d, w);
            fold(s, patches.data_ptr<float>(), count, dx.data_ptr<float>() + start * pixels);
        }
        auto db = at::empty({s.outputs}, x.options());
        std::copy(bias.begin(), bias.end(), db.data_ptr<float>());
        return {dx, dw.reshape({s.outputs, kernel, kernel, s.channels}).permute({0, 3, 1, 2}).contiguous(), db, at::Tensor()};
    }
};

}  // namespace

extern "C" {

ct_tensor ct_convolution_pool(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t padding) {
    return make([&]() -> at::Tensor {
        const auto &input = get(x), &w = get(weight);
        const auto b = bias ? get(bias) : at::zeros({w.size(0)}, w.options());
        if (input.scalar_type() == at::kFloat && w.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat && input.is_cpu() && input.dim() == 4)
            return ConvolutionPool::apply(input, w, b, padding);
        return at::max_pool2d(at::conv2d(input, w, b, {1, 1}, {padding, padding}), {2, 2}, {2, 2}).relu();
    });
}
}
