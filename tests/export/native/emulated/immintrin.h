/* AVX-512 and VNNI intrinsics in plain C: their results, not their time. */
#ifndef EMULATED
#define EMULATED
#include_next <immintrin.h>
#include <stdint.h>
#include <string.h>
#define E static __attribute__((noinline, unused, target("avx2,fma")))
#define __m512i emulated_512
#define __mmask16 emulated_mask
typedef unsigned short emulated_mask;
typedef int32_t emulated_512 __attribute__((vector_size(64)));
E emulated_512 emulated_from(const void *p) { emulated_512 r; memcpy(&r, p, 64); return r; }
#define LANEWISE(name, T, N, expression) \
  E emulated_512 emulated_##name(emulated_512 a, emulated_512 b) { T x[N], y[N], r[N]; memcpy(x, &a, 64); memcpy(y, &b, 64); \
    for (int i = 0; i < N; i++) r[i] = (T)(expression); return emulated_from(r); }
LANEWISE(add_epi32, uint32_t, 16, x[i] + y[i])
LANEWISE(sub_epi32, uint32_t, 16, x[i] - y[i])
LANEWISE(sub_epi8, uint8_t, 64, x[i] - y[i])
LANEWISE(and_si512, uint32_t, 16, x[i] & y[i])
LANEWISE(max_epi32, int32_t, 16, x[i] > y[i] ? x[i] : y[i])
LANEWISE(min_epi32, int32_t, 16, x[i] < y[i] ? x[i] : y[i])
LANEWISE(add_epi64, uint64_t, 8, x[i] + y[i])
LANEWISE(mul_epi32, int64_t, 8, (int64_t)(int32_t)x[i] * (int32_t)y[i])
LANEWISE(sllv_epi32, uint32_t, 16, y[i] > 31 ? 0 : x[i] << y[i])
LANEWISE(srav_epi32, int32_t, 16, x[i] >> ((uint32_t)y[i] > 31 ? 31 : y[i]))
LANEWISE(permutexvar_epi16, uint16_t, 32, y[x[i] & 31])
E emulated_512 emulated_srli_epi64(emulated_512 a, int n) { uint64_t x[8]; memcpy(x, &a, 64); for (int i = 0; i < 8; i++) x[i] >>= n; return emulated_from(x); }
E emulated_512 emulated_slli_epi64(emulated_512 a, int n) { uint64_t x[8]; memcpy(x, &a, 64); for (int i = 0; i < 8; i++) x[i] <<= n; return emulated_from(x); }
E emulated_512 emulated_srli_epi32(emulated_512 a, int n) { uint32_t x[16]; memcpy(x, &a, 64); for (int i = 0; i < 16; i++) x[i] >>= n; return emulated_from(x); }
E emulated_512 emulated_slli_epi32(emulated_512 a, int n) { uint32_t x[16]; memcpy(x, &a, 64); for (int i = 0; i < 16; i++) x[i] <<= n; return emulated_from(x); }
E emulated_512 emulated_srai_epi32(emulated_512 a, int n) { for (int i = 0; i < 16; i++) a[i] >>= n; return a; }
E emulated_512 emulated_set1_epi32(int32_t v) { emulated_512 r; for (int i = 0; i < 16; i++) r[i] = v; return r; }
E emulated_512 emulated_set1_epi64(int64_t v) { int64_t x[8]; for (int i = 0; i < 8; i++) x[i] = v; return emulated_from(x); }
E emulated_512 emulated_set1_epi8(char v) { char x[64]; memset(x, v, 64); return emulated_from(x); }
E emulated_512 emulated_setzero(void) { return emulated_set1_epi32(0); }
E emulated_512 emulated_blend(unsigned mask, emulated_512 a, emulated_512 b) { for (int i = 0; i < 16; i++) if (mask >> i & 1) a[i] = b[i]; return a; }
E emulated_512 emulated_cvtepi8_epi32(__m128i a) { int8_t x[16]; emulated_512 r; memcpy(x, &a, 16); for (int i = 0; i < 16; i++) r[i] = x[i]; return r; }
E emulated_512 emulated_cvtepi8_epi16(__m256i a) { int8_t x[32]; int16_t r[32]; memcpy(x, &a, 32); for (int i = 0; i < 32; i++) r[i] = x[i]; return emulated_from(r); }
E __m128i emulated_cvtepi32_epi8(emulated_512 a) { int8_t x[16]; __m128i r; for (int i = 0; i < 16; i++) x[i] = (int8_t)a[i]; memcpy(&r, x, 16); return r; }
E void emulated_mask_store(void *to, unsigned mask, __m128i a) { char x[16]; memcpy(x, &a, 16); for (int i = 0; i < 16; i++) if (mask >> i & 1) ((char *)to)[i] = x[i]; }
E emulated_512 emulated_dpbusd(emulated_512 s, emulated_512 a, emulated_512 b) { uint8_t x[64]; int8_t y[64]; memcpy(x, &a, 64); memcpy(y, &b, 64); for (int i = 0; i < 64; i++) s[i / 4] += x[i] * y[i]; return s; }
E emulated_512 emulated_dpwssd(emulated_512 s, emulated_512 a, emulated_512 b) { int16_t x[32], y[32]; memcpy(x, &a, 64); memcpy(y, &b, 64); for (int i = 0; i < 32; i++) s[i / 2] += x[i] * y[i]; return s; }
E emulated_512 emulated_set_epi16(const short *v) { short r[32]; for (int i = 0; i < 32; i++) r[i] = v[31 - i]; return emulated_from(r); }
E __m256i emulated_dpbusd_256(__m256i s, __m256i a, __m256i b) { int32_t v[8]; uint8_t x[32]; int8_t y[32]; memcpy(v, &s, 32); memcpy(x, &a, 32); memcpy(y, &b, 32); for (int i = 0; i < 32; i++) v[i / 4] += x[i] * y[i]; memcpy(&s, v, 32); return s; }
E __m256i emulated_dpwssd_256(__m256i s, __m256i a, __m256i b) { int32_t v[8]; int16_t x[16], y[16]; memcpy(v, &s, 32); memcpy(x, &a, 32); memcpy(y, &b, 32); for (int i = 0; i < 16; i++) v[i / 2] += x[i] * y[i]; memcpy(&s, v, 32); return s; }
#define _mm512_add_epi32 emulated_add_epi32
#define _mm512_sub_epi32 emulated_sub_epi32
#define _mm512_sub_epi8 emulated_sub_epi8
#define _mm512_and_si512 emulated_and_si512
#define _mm512_max_epi32 emulated_max_epi32
#define _mm512_min_epi32 emulated_min_epi32
#define _mm512_add_epi64 emulated_add_epi64
#define _mm512_mul_epi32 emulated_mul_epi32
#define _mm512_sllv_epi32 emulated_sllv_epi32
#define _mm512_srav_epi32 emulated_srav_epi32
#define _mm512_permutexvar_epi16 emulated_permutexvar_epi16
#define _mm512_srli_epi64 emulated_srli_epi64
#define _mm512_slli_epi64 emulated_slli_epi64
#define _mm512_srli_epi32 emulated_srli_epi32
#define _mm512_slli_epi32 emulated_slli_epi32
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_set1_epi32 emulated_set1_epi32
#define _mm512_set1_epi64 emulated_set1_epi64
#define _mm512_set1_epi8 emulated_set1_epi8
#define _mm512_setzero_si512 emulated_setzero
#define _mm512_mask_blend_epi32 emulated_blend
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepi8_epi16 emulated_cvtepi8_epi16
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm_mask_storeu_epi8 emulated_mask_store
#define _mm512_dpbusd_epi32 emulated_dpbusd
#define _mm512_dpwssd_epi32 emulated_dpwssd
#define _mm512_loadu_si512 emulated_from
#define _mm512_set_epi16(...) emulated_set_epi16((const short[]){__VA_ARGS__})
#define _mm256_dpbusd_avx_epi32 emulated_dpbusd_256
#define _mm256_dpwssd_avx_epi32 emulated_dpwssd_256
#endif
