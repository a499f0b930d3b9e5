// What is done to pictures before a network sees them.
#include "Failure.hpp"
#include <algorithm>

using namespace ct;

extern "C" {

ct_tensor ct_i420_rgb(ct_tensor frames, int64_t side) {
    return make([&]() -> at::Tensor {
        const auto rows = get(frames).contiguous();
        TORCH_CHECK(rows.scalar_type() == at::kByte && rows.dim() == 2 && side % 2 == 0 && rows.size(1) * 2 == 3 * side * side, "frames of shape ", rows.sizes(), " are no I420 of side ", side);
        auto out = at::empty({rows.size(0), 3, side, side}, at::kByte);
        const int64_t area = side * side, half = side / 2;
        const uint8_t *from = rows.data_ptr<uint8_t>();
        uint8_t *to = out.data_ptr<uint8_t>();
        const auto cut = [](int32_t value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); };
        for (int64_t row = 0; row < rows.size(0); ++row, from += area + 2 * half * half, to += 3 * area)
            for (int64_t i = 0; i < side; ++i)
                for (int64_t j = 0; j < side; ++j) {
                    const int64_t chroma = area + i / 2 * half + j / 2;
                    const int32_t y = from[i * side + j], b = from[chroma] - 128, e = from[chroma + half * half] - 128;
                    uint8_t *pixel = to + i * side + j;
                    pixel[0] = cut(y + ((91881 * e + 32768) >> 16));
                    pixel[area] = cut(y + ((-22554 * b - 46802 * e + 32768) >> 16));
                    pixel[2 * area] = cut(y + ((116130 * b + 32768) >> 16));
                }
        return out;
    });
}

ct_tensor ct_moved(ct_tensor pictures, const int64_t *moves, int64_t rows) {
    return make([&]() -> at::Tensor {
        const auto x = get(pictures).contiguous(at::MemoryFormat::ChannelsLast);
        TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() == 4 && x.size(0) == rows, "F32 pictures, one for each of ", rows, " moves, are needed, not ", x.sizes());
        auto out = at::zeros_like(x);
        const int64_t channels = x.size(1), high = x.size(2), wide = x.size(3);
        const float *from = x.data_ptr<float>();
        float *to = out.data_ptr<float>();
        for (int64_t row = 0; row < rows; ++row, from += high * wide * channels, to += high * wide * channels) {
            const int64_t down = moves[3 * row], right = moves[3 * row + 1];
            const bool mirrored = moves[3 * row + 2] != 0;
            for (int64_t i = std::max<int64_t>(0, -down); i < std::min(high, high - down); ++i)
                for (int64_t j = std::max<int64_t>(0, -right); j < std::min(wide, wide - right); ++j) {
                    const int64_t column = j + right;
                    std::copy_n(from + ((i + down) * wide + (mirrored ? wide - 1 - column : column)) * channels, channels, to + (i * wide + j) * channels);
                }
        }
        return out;
    });
}
}
