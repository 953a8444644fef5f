/* lenet_native_int8.c, sha256 1807d79b48d739fef604c29c5c5c8c91689534355768bb8ec3c2657dd4e5e0f6. Made by lenet-edge; do not edit.
 *
 * Images are 28 x 28 x 1: height, width, channels. The largest logit is the class.
 * A pixel p of 0 to 255 goes in as round(p * 0.00392156863 / INPUT_SCALE) + INPUT_ZERO_POINT.
 */
#ifndef LENET_H
#define LENET_H

#include <stddef.h>
#include <stdint.h>

#define LENET_INPUT_SCALE 0.00392156886f
#define LENET_INPUT_ZERO_POINT (-128)
#define LENET_OUTPUT_SCALE 0.155573562f
#define LENET_OUTPUT_ZERO_POINT (28)

#define LENET_NUM_CLASSES 10
#define LENET_LABELS {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

#ifdef __cplusplus
extern "C" {
#endif
void lenet(const int8_t image[784], int8_t logits[10]);
void lenet_batch(const int8_t *images, int8_t *logits, size_t count);
#ifdef __cplusplus
}
#endif

#endif
