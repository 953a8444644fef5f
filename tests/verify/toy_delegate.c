/* A TFLite external delegate that is wrong on purpose: it computes fully connected layers in float,
   and adds BIAS to each value. The parts of TFLite's C ABI that it needs are declared here:
   tensorflow/lite/core/c/common.h and tensorflow/lite/delegates/external/external_delegate.cc. */
#include <stdint.h>
#include <stdlib.h>

#ifndef BIAS
#define BIAS 5.0f
#endif
enum { FLOAT32 = 1, FULLY_CONNECTED = 9, RELU = 1 };

typedef struct { int size; int data[]; } Ints;
typedef struct {
  int type; void *data; Ints *dims; float scale; int32_t zero_point; int allocation_type; size_t bytes;
  const void *allocation; const char *name; void *delegate; int buffer_handle; _Bool stale, variable;
  int quantization_type; void *quantization; void *sparsity; const Ints *signature;
} Tensor;
typedef struct {
  Ints *inputs, *outputs, *intermediates, *temporaries; void *user_data, *builtin_data;
  const void *custom_data; int custom_size; void *delegate; _Bool side_effect;
} Node;
typedef struct Context Context;
typedef struct {
  void *(*init)(Context *, const char *, size_t); void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *); int (*invoke)(Context *, Node *);
  const char *(*profile)(const Context *, const Node *);
  int32_t builtin_code; const char *custom_name; int version; void *external, *async; uint64_t inplace;
} Kernel;
typedef struct Delegate Delegate;
struct Context {
  size_t tensor_count; int (*plan)(Context *, Ints **); Tensor *tensors; void *implementation;
  int (*resize)(Context *, Tensor *, Ints *); void (*error)(Context *, const char *, ...);
  int (*add)(Context *, int, int *); int (*node)(Context *, int, Node **, Kernel **);
  int (*replace)(Context *, Kernel, const Ints *, Delegate *);
};
struct Delegate { void *data; int (*prepare)(Context *, Delegate *); void *a, *b, *c; int64_t flags; void *opaque; };
typedef struct { Delegate *delegate; Ints *nodes, *inputs, *outputs; } Partition;

/* One node a partition: only the last fully connected layer is claimed. */
typedef struct { int input, weights, bias, output; } Layer;

static void *init(Context *context, const char *buffer, size_t length) {
  (void)length;
  const Partition *partition = (const Partition *)buffer;
  Layer *layer = calloc(1, sizeof *layer);
  Node *node; Kernel *kernel;
  if (context->node(context, partition->nodes->data[0], &node, &kernel)) return layer;
  layer->input = node->inputs->data[0];
  layer->weights = node->inputs->data[1];
  layer->bias = node->inputs->size > 2 ? node->inputs->data[2] : -1;
  layer->output = node->outputs->data[0];
  return layer;
}

static void release(Context *context, void *layer) { (void)context; free(layer); }

static int prepare(Context *context, Node *node) { (void)context; (void)node; return 0; }

static int invoke(Context *context, Node *node) {
  const Layer *layer = node->user_data;
  Tensor *weights = &context->tensors[layer->weights];
  int outputs = weights->dims->data[0], inputs = weights->dims->data[1];
  int batch = (int)(context->tensors[layer->input].bytes / sizeof(float)) / inputs;
  const float *x = context->tensors[layer->input].data, *w = weights->data;
  const float *bias = layer->bias < 0 ? NULL : context->tensors[layer->bias].data;
  float *y = context->tensors[layer->output].data;
  for (int row = 0; row < batch; row++)
    for (int j = 0; j < outputs; j++) {
      float sum = (bias ? bias[j] : 0) + (j % 2 ? BIAS : 0);
      for (int i = 0; i < inputs; i++) sum += x[row * inputs + i] * w[j * inputs + i];
      y[row * outputs + j] = sum;
    }
  return 0;
}

static int claim(Context *context, Delegate *delegate) {
  Ints *plan;
  if (context->plan(context, &plan) || !plan->size) return 1;
  int last = plan->data[plan->size - 1];
  Node *node; Kernel *kernel;
  if (context->node(context, last, &node, &kernel)) return 1;
  if (kernel->builtin_code != FULLY_CONNECTED || context->tensors[node->inputs->data[1]].type != FLOAT32)
    return 0;
  Ints *chosen = malloc(sizeof(Ints) + sizeof(int));
  chosen->size = 1;
  chosen->data[0] = last;
  Kernel ours = {init, release, prepare, invoke, NULL, 0, "Toy", 1, NULL, NULL, 0};
  int status = context->replace(context, ours, chosen, delegate);
  free(chosen);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)keys; (void)values; (void)count; (void)report;
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = claim;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
