/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "trace/trace-kvmi_accel_introspection.h"
