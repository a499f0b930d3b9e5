// What the pooled convolution's forward and backward passes share: sizes, images with a border, the layout of weights.
#pragma once
#include "Failure.hpp"
#include "Kernels/Kernels.hpp"
#include <algorithm>
#include <cstring>

namespace ct {

inline at::Tensor lastChannels(const at::Tensor &a) { return a.contiguous(at::MemoryFormat::ChannelsLast); }
inline int64_t upTo(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Sizes of one call: `g` is one padded image's.
struct PooledSizes {
    int64_t images, height, width, kernel, padding;
    PooledGeometry g;

    PooledSizes(at::IntArrayRef x, at::IntArrayRef weight, int64_t pad) {
        TORCH_CHECK(x.size() == 4 && weight.size() == 4 && x[1] == weight[1] && weight[2] == weight[3], "input ", x, " and weight ", weight, " do not fit");
        images = x[0], height = x[2], width = x[3], kernel = weight[2], padding = pad;
        const int64_t channels = x[1], high = (height + 2 * padding - kernel + 1) / 2, wide = (width + 2 * padding - kernel + 1) / 2;
        TORCH_CHECK(high > 0 && wide > 0, "input ", x, " is too small for weight ", weight, " and a 2x2 window");
        g = {channels, (width + 2 * padding) * channels, kernel, kernel * channels, high, wide, weight[0]};
    }
    int64_t imageCount() const { return height * width * g.channels; }
    int64_t paddedCount() const { return (height + 2 * padding) * g.line; }
    int64_t pooledCount() const { return g.windows() * g.outputs; }
    int64_t noiseCount() const { return 4 * pooledCount(); }
    // Images whose lists and patches fill little more than the first-level cache.
    int64_t block() const {
        constexpr int64_t bytes = 80 * 1024;
        return std::clamp<int64_t>(bytes / (2 * paddedCount() * 4 + pooledCount() * static_cast<int64_t>(sizeof(Spot))), 1, std::max<int64_t>(1, images));
    }

    // Where the numbers of a patch lie in an image, from the patch's first.
    std::vector<int32_t> offsets() const {
        std::vector<int32_t> result;
        for (int64_t k = 0; k < g.patch(); ++k) result.push_back(static_cast<int32_t>(k / g.run * g.line + k % g.run));
        return result;
    }

    // Copies an image between its own memory and one with a border of zeros, which must be there already.
    void addBorder(const float *image, float *bordered) const {
        const int64_t own = width * g.channels;
        for (int64_t y = 0; y < height; ++y) std::memcpy(bordered + (y + padding) * g.line + padding * g.channels, image + y * own, sizeof(float) * own);
    }
    void removeBorder(const float *bordered, float *image) const {
        const int64_t own = width * g.channels;
        for (int64_t y = 0; y < height; ++y) std::memcpy(image + y * own, bordered + (y + padding) * g.line + padding * g.channels, sizeof(float) * own);
    }
};

// Room for floats that starts with zeros and may be read a little beyond its end.
inline std::vector<float> room(int64_t count) { return std::vector<float>(static_cast<size_t>(count + slack)); }

inline void square(const float *from, int64_t count, float *to) {
    for (int64_t index = 0; index < count; ++index) to[index] = from[index] * from[index];
}

// Weights [outputs, channels, k, k] as [outputs, patch], and back.
inline at::Tensor byPatch(const at::Tensor &weight) { return weight.permute({0, 2, 3, 1}).reshape({weight.size(0), -1}).contiguous(); }
inline at::Tensor byChannel(const at::Tensor &patches, int64_t kernel) {
    return patches.reshape({patches.size(0), kernel, kernel, -1}).permute({0, 3, 1, 2}).contiguous();
}

}  // namespace ct
