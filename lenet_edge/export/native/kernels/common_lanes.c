/* A text of vectors serves several instruction sets. A vector has a 32-bit sum of each of OUTPUTS
 * outputs: one in each lane.
 */
#define FOUR(DO) DO(0) DO(1) DO(2) DO(3)
#define EIGHT(DO) FOUR(DO) DO(4) DO(5) DO(6) DO(7)
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL(n) PRAGMA(clang loop unroll_count(n))
#elif __GNUC__ >= 8
#define UNROLL(n) PRAGMA(GCC unroll n)
#else
#define UNROLL(n)
#endif
