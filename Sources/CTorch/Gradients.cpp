// Reverse-mode gradients.
#include "Failure.hpp"
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

using namespace ct;

extern "C" {

bool ct_set_recording(bool on) {
    bool was = at::GradMode::is_enabled();
    at::GradMode::set_enabled(on);
    return was;
}

ct_tensor ct_leaf(ct_tensor a) {
    return make([&] { return get(a).detach().requires_grad_(true); });
}

int32_t ct_gradient(ct_tensor value, const ct_tensor *leaves, int32_t count, ct_tensor *out) {
    return attempt<int32_t>(-1, [&] {
        std::vector<at::Tensor> inputs;
        for (int32_t index = 0; index < count; ++index) inputs.push_back(get(leaves[index]));
        auto gradients = torch::autograd::grad({get(value)}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
        for (int32_t index = 0; index < count; ++index)
            out[index] = wrap(gradients[index].defined() ? gradients[index] : at::zeros_like(inputs[index]));
        return 0;
    });
}
}
