#include "tests/bpf/world.h"
