// One vector register of the level that is being compiled: `vectorBytes` wide. Included by Level.hpp only.
constexpr int lanes = vectorBytes / 4;

typedef float F __attribute__((ext_vector_type(lanes)));
typedef int32_t I __attribute__((ext_vector_type(lanes)));
typedef uint32_t U __attribute__((ext_vector_type(lanes)));
typedef uint64_t W __attribute__((ext_vector_type(lanes / 2)));

#define ACCRUE_INLINE static inline __attribute__((always_inline))

ACCRUE_INLINE F load(const float *from) {
    F value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

ACCRUE_INLINE void store(float *to, F value) { __builtin_memcpy(to, &value, sizeof value); }

// The first `count` lanes, at most all.
ACCRUE_INLINE void store(float *to, F value, int64_t count) {
    if (count >= lanes) return store(to, value);
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = value[lane];
}

ACCRUE_INLINE F bits(U value) { return __builtin_bit_cast(F, value); }
ACCRUE_INLINE U bits(F value) { return __builtin_bit_cast(U, value); }
ACCRUE_INLINE F number(I value) { return __builtin_convertvector(value, F); }
ACCRUE_INLINE F root(F value) { return __builtin_elementwise_sqrt(value); }

// Says that a value is wanted in a register here: keeps the compiler from moving work about until it runs out of registers.
ACCRUE_INLINE void inRegister(F &value) {
#if defined(__x86_64__)
    // "x" is one of the first sixteen, "v" any of AVX-512's thirty-two.
    if constexpr (lanes == 16) asm("" : "+v"(value));
    else asm("" : "+x"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
}
