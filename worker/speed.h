// How fast one processor of this host is, by a short calculation.
#pragma once

namespace souk {

/// Speed of one processor beside that of the reference, which is 1.0: a virtual processor of a cloud server of about 2022 (AMD EPYC), on
/// which the calculation takes 5 ms of processor time. It is a chain of integer steps with look-ups in 64 KiB and a chain of floating-point steps, so it
/// tells of clock and core, not of memory bandwidth or vector units. Best of three; takes about 15 ms.
/// yields: tenths, at least 0.1 and at most kSpeedMax; 0 when there is no clock for it
double measure_speed();

}  // namespace souk
