// All kernels for one instruction set. Included once for each by Levels.cpp, in a namespace that says `vectorBytes` and `levelName`.
#include "Vector.hpp"
#include "Normals.hpp"

static constexpr Kernels table = {levelName, false, lanes, normals};

#undef ACCRUE_INLINE
