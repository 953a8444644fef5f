/* The functions of string.h that networks call, for a compiler that brings no C library.
 * A freestanding compiler replaces only the builtins by instructions.
 */
#ifndef STRING_H
#define STRING_H
#include <stddef.h>
#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
#define memset __builtin_memset
#endif
