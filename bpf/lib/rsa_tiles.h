/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The loops of RSA verification as BPF assembly; rsa.h has the argument, rsa_size.h the functions.
 *
 * Assembly, because clang keeps the sums in memory when a loop needs all ten registers.  Operands: c0 to c3 are the
 * columns' sums, a and b point to rows and columns, u, v, x, y are scratch; the rest is on the stack.  b points so
 * far below the first column's partner of the first row that no offset is negative.  Offsets are in bytes.
 */
#ifndef PC_RSA_TILES_H
#define PC_RSA_TILES_H

#define PC_RSA_PAIR(c, hi, lo) \
	"%[x] = *(u64 *)(%[b] + " #hi ")\n%[x] += %[v]\n" \
	"%[y] = *(u64 *)(%[b] + " #lo ")\n%[y] += %[u]\n" \
	"%[x] *= %[y]\n%[" #c "] += %[x]\n"
#define PC_RSA_ROWS(row, o0, o1, o2, o3, o4) \
	"%[u] = *(u64 *)(%[a] + " #row ")\n%[v] = *(u64 *)(%[a] + " #row " + 8)\n" \
	PC_RSA_PAIR(c0, o1, o0) PC_RSA_PAIR(c1, o2, o1) PC_RSA_PAIR(c2, o3, o2) PC_RSA_PAIR(c3, o4, o3)
/* left turns of four rows each, left > 0; b is three limbs below.  From half_ on it is two rows less. */
#define PC_RSA_TURNS \
	"tile_%=:\n" PC_RSA_ROWS(0, 16, 24, 32, 40, 48) \
	"half_%=:\n" PC_RSA_ROWS(16, 0, 8, 16, 24, 32) \
	"%[a] += 32\n%[b] += -32\n" \
	"%[x] = *(u64 *)%[left]\n%[x] += -1\n*(u64 *)%[left] = %[x]\nif %[x] != 0 goto tile_%=\n"
/* x times four rows, x > 0, eight a turn; b is seven limbs below.  An odd x begins in the loop's middle, by way of
 * PC_RSA_TILE_ODD at the end.
 * VERIFIER: kernel 6.1 follows what stands behind a branch first, and that is the loop from its beginning; coming from the
 * middle, it would take falling into it for a back-edge. */
#define PC_RSA_TILE \
	"%[y] = %[x]\n%[x] += 1\n%[x] >>= 1\n*(u64 *)%[left] = %[x]\n%[y] &= 1\nif %[y] != 0 goto odd_%=\n" \
	"tile_%=:\n" PC_RSA_ROWS(0, 48, 56, 64, 72, 80) PC_RSA_ROWS(16, 32, 40, 48, 56, 64) \
	"half_%=:\n" PC_RSA_ROWS(32, 16, 24, 32, 40, 48) PC_RSA_ROWS(48, 0, 8, 16, 24, 32) \
	"%[a] += 64\n%[b] += -64\n" \
	"%[x] = *(u64 *)%[left]\n%[x] += -1\n*(u64 *)%[left] = %[x]\nif %[x] != 0 goto tile_%=\n"
#define PC_RSA_TILE_ODD "goto end_%=\nodd_%=:\n%[a] += -32\n%[b] += 32\ngoto half_%=\nend_%=:\n"
/* d = the digit of the sum c, which becomes the carry */
#define PC_RSA_DIGIT(c, d) \
	"%[" #c "] += %[half]\n%[" #d "] = %[" #c "]\n%[" #d "] &= %[mask]\n%[" #d "] -= %[half]\n%[" #c "] s>>= %[bits]\n"
#define PC_RSA_REGISTERS \
	[c0] "=&r"(c0), [c1] "=&r"(c1), [c2] "=&r"(c2), [c3] "=&r"(c3), [u] "=&r"(u), [v] "=&r"(v), [x] "=&r"(x), \
		[y] "=&r"(y), [b] "=&r"(b)

/* The limb o of the result is the sum c; c becomes the carry. */
#define PC_RSA_PUT(c, o) \
	"%[x] = %[" #c "]\n%[x] &= %[mask]\n*(u64 *)(%[b] + %[t] + " #o ") = %[x]\n%[" #c "] s>>= %[bits]\n"

/* c = t - f - x */
#define PC_RSA_REDC_START(c, o) \
	"%[" #c "] = *(u64 *)(%[a] + %[t] + " #o ")\n%[y] = *(u64 *)(%[a] + %[f] + " #o ")\n" \
	"%[" #c "] -= %[y]\n%[" #c "] -= %[x]\n"
#define PC_RSA_REDC_STARTS \
	"%[a] = *(u64 *)%[k]\n%[x] = *(u64 *)%[sum]\n" \
	PC_RSA_REDC_START(c0, 0) PC_RSA_REDC_START(c1, 8) PC_RSA_REDC_START(c2, 16) PC_RSA_REDC_START(c3, 24) \
	"%[y] = *(u64 *)%[carry]\n%[c0] += %[y]\n"
/* c += the limb o of n times d */
#define PC_RSA_TIMES(c, o, d) "%[y] = *(u64 *)(%[b] + %[n] + " #o ")\n%[y] *= %[" #d "]\n%[" #c "] += %[y]\n"
/* The columns below R.  q[i] makes column i a multiple of 2^W; sum is that of the products of neighbours in q. */
#define PC_RSA_REDC_LOW \
	"*(u64 *)%[w] = %[a]\n*(u64 *)%[k] = %[a]\n" \
	"%[x] = 0\n*(u64 *)%[carry] = %[x]\n*(u64 *)%[sum] = %[x]\n*(u64 *)%[turns] = %[x]\n" \
	"block_%=:\n" PC_RSA_REDC_STARTS \
	"%[b] = %[a]\n%[b] += %[n] - 56\n%[a] = *(u64 *)%[w]\n%[a] += %[q]\n" \
	"%[x] = *(u64 *)%[turns]\nif %[x] == 0 goto corner_%=\n" PC_RSA_TILE \
	"corner_%=:\n%[a] = *(u64 *)%[k]\n%[b] = *(u64 *)%[w]\n" \
	PC_RSA_DIGIT(c0, u) "*(u64 *)(%[a] + %[q]) = %[u]\n%[c1] += %[c0]\n" \
	PC_RSA_TIMES(c1, 8, u) \
	PC_RSA_DIGIT(c1, v) "*(u64 *)(%[a] + %[q] + 8) = %[v]\n%[c2] += %[c1]\n" \
	PC_RSA_TIMES(c2, 16, u) PC_RSA_TIMES(c2, 8, v) \
	PC_RSA_DIGIT(c2, x) "*(u64 *)(%[a] + %[q] + 16) = %[x]\n%[c3] += %[c2]\n" \
	PC_RSA_TIMES(c3, 24, u) PC_RSA_TIMES(c3, 16, v) PC_RSA_TIMES(c3, 8, x) \
	PC_RSA_DIGIT(c3, y) "*(u64 *)(%[a] + %[q] + 24) = %[y]\n*(u64 *)%[carry] = %[c3]\n" \
	"%[u] *= %[v]\n%[x] *= %[y]\n%[u] += %[x]\n%[x] = *(u64 *)%[sum]\n%[x] += %[u]\n*(u64 *)%[sum] = %[x]\n" \
	"%[a] += 32\n*(u64 *)%[k] = %[a]\n" \
	"%[x] = *(u64 *)%[turns]\n%[x] += 1\n*(u64 *)%[turns] = %[x]\nif %[x] != %[blocks] goto block_%=\n" PC_RSA_TILE_ODD
/* The columns from R on, which are the result; turns counts down. */
#define PC_RSA_REDC_HIGH \
	"%[a] = *(u64 *)%[w]\n*(u64 *)%[k] = %[a]\n" \
	"block_%=:\n" PC_RSA_REDC_STARTS \
	"%[u] = *(u64 *)(%[a] + %[q])\n%[v] = *(u64 *)(%[a] + %[q] + 8)\n%[u] *= %[v]\n%[x] -= %[u]\n" \
	"%[u] = *(u64 *)(%[a] + %[q] + 16)\n%[v] = *(u64 *)(%[a] + %[q] + 24)\n%[u] *= %[v]\n%[x] -= %[u]\n" \
	"*(u64 *)%[sum] = %[x]\n" \
	"%[a] += %[q]\n%[b] = *(u64 *)%[w]\n%[b] += %[n] - 56\n%[x] = *(u64 *)%[turns]\n" PC_RSA_TILE \
	"%[a] = *(u64 *)%[k]\n" \
	PC_RSA_DIGIT(c0, x) "*(u64 *)(%[a] + %[to]) = %[x]\n%[c1] += %[c0]\n" \
	PC_RSA_DIGIT(c1, x) "*(u64 *)(%[a] + %[to] + 8) = %[x]\n%[c2] += %[c1]\n" \
	PC_RSA_DIGIT(c2, x) "*(u64 *)(%[a] + %[to] + 16) = %[x]\n%[c3] += %[c2]\n" \
	PC_RSA_DIGIT(c3, x) "*(u64 *)(%[a] + %[to] + 24) = %[x]\n*(u64 *)%[carry] = %[c3]\n" \
	"%[a] += 32\n*(u64 *)%[k] = %[a]\n" \
	"%[x] = *(u64 *)%[turns]\n%[x] += -1\n*(u64 *)%[turns] = %[x]\nif %[x] != 0 goto block_%=\n" PC_RSA_TILE_ODD

/* c = less the sums of neighbours: x is the rows' part, the rest is the columns' */
#define PC_RSA_SQR_START(c, o) \
	"%[" #c "] = *(u64 *)(%[a] + %[less] + " #o ")\n%[y] = *(u64 *)(%[b] + %[p] + " #o ")\n" \
	"%[" #c "] -= %[y]\n%[" #c "] -= %[x]\n"
#define PC_RSA_SQR_STARTS \
	PC_RSA_SQR_START(c0, 8) PC_RSA_SQR_START(c1, 16) PC_RSA_SQR_START(c2, 24) PC_RSA_SQR_START(c3, 32)
/* x pairs of rows, x > 0, likewise by way of PC_RSA_ODD; four rows a turn, which is faster where there are fewer. */
#define PC_RSA_TILE_OF_PAIRS \
	"%[y] = %[x]\n%[x] += 1\n%[x] >>= 1\n*(u64 *)%[left] = %[x]\n" \
	"%[y] &= 1\nif %[y] != 0 goto odd_%=\n" PC_RSA_TURNS
#define PC_RSA_ODD "goto end_%=\nodd_%=:\n%[a] += -16\n%[b] += 16\ngoto half_%=\nend_%=:\n"
/* Doubles the sums, adds what lies on the diagonal and beside it, and goes on to the next block. */
#define PC_RSA_SQR_CORNER \
	"%[a] = *(u64 *)%[k2]\n%[b] = *(u64 *)%[k]\n" \
	"%[u] = *(u64 *)(%[a] + %[mid])\n%[v] = *(u64 *)(%[a] + %[mid] + 8)\n" \
	"%[c0] <<= 1\n%[x] = *(u64 *)%[carry]\n%[c0] += %[x]\n%[x] = %[u]\n%[x] *= %[x]\n%[c0] += %[x]\n" \
	PC_RSA_PUT(c0, 0) \
	"%[x] = %[u]\n%[x] *= %[v]\n%[c1] += %[x]\n%[c1] <<= 1\n%[c1] += %[c0]\n" \
	PC_RSA_PUT(c1, 8) \
	"%[y] = *(u64 *)(%[a] + %[mid] + 16)\n%[x] = %[y]\n%[x] *= %[u]\n%[c2] += %[x]\n%[c2] <<= 1\n%[c2] += %[c1]\n" \
	"%[x] = %[v]\n%[x] *= %[x]\n%[c2] += %[x]\n" \
	PC_RSA_PUT(c2, 16) \
	"%[y] *= %[v]\n%[c3] += %[y]\n%[y] = *(u64 *)(%[a] + %[mid] + 24)\n%[y] *= %[u]\n%[c3] += %[y]\n" \
	"%[c3] <<= 1\n%[c3] += %[c2]\n" \
	PC_RSA_PUT(c3, 24) \
	"*(u64 *)%[carry] = %[c3]\n%[a] += 16\n*(u64 *)%[k2] = %[a]\n%[b] += 32\n*(u64 *)%[k] = %[b]\n"
/* The columns below R: block i has i pairs of rows from the first limb on. */
#define PC_RSA_SQR_LOW \
	"*(u64 *)%[w] = %[a]\n*(u64 *)%[k] = %[a]\n*(u64 *)%[k2] = %[a]\n" \
	"%[x] = 0\n*(u64 *)%[carry] = %[x]\n*(u64 *)%[turns] = %[x]\n" \
	"block_%=:\n%[a] = *(u64 *)%[k2]\n%[b] = *(u64 *)%[k]\n%[x] = *(u64 *)(%[a] + %[less])\n" PC_RSA_SQR_STARTS \
	"%[a] = *(u64 *)%[w]\n%[a] += %[from]\n%[b] += %[from] - 24\n" \
	"%[x] = *(u64 *)%[turns]\nif %[x] == 0 goto corner_%=\n" PC_RSA_TILE_OF_PAIRS \
	"corner_%=:\n" PC_RSA_SQR_CORNER \
	"%[x] = *(u64 *)%[turns]\n%[x] += 1\n*(u64 *)%[turns] = %[x]\nif %[x] != %[blocks] goto block_%=\n" PC_RSA_ODD
/* The columns from R on: the first row is the lowest that has a partner; turns counts down. */
#define PC_RSA_SQR_HIGH \
	"%[a] = *(u64 *)%[w]\n*(u64 *)%[k] = %[a]\n*(u64 *)%[k2] = %[a]\n" \
	"block_%=:\n%[a] = *(u64 *)%[k]\n%[y] = *(u64 *)(%[a] + %[p])\n%[a] = *(u64 *)%[k2]\n%[b] = *(u64 *)%[w]\n" \
	"%[x] = *(u64 *)(%[a] + %[less])\n%[x] -= %[y]\n%[b] += %[high]\n" PC_RSA_SQR_STARTS \
	"%[a] = *(u64 *)%[k]\n%[a] += %[from]\n%[b] += %[from] - 24\n%[x] = *(u64 *)%[turns]\n" PC_RSA_TILE_OF_PAIRS \
	PC_RSA_SQR_CORNER \
	"%[x] = *(u64 *)%[turns]\n%[x] += -1\n*(u64 *)%[turns] = %[x]\nif %[x] != 0 goto block_%=\n" PC_RSA_ODD

/* c = t + the sums of neighbours at plus - those at less - x, where x is the rows' part */
#define PC_RSA_MUL_START(c, o, plus, less) \
	"%[" #c "] = *(u64 *)(%[a] + %[t] + " #o ")\n%[y] = *(u64 *)(" plus " + 8 + " #o ")\n%[" #c "] += %[y]\n" \
	"%[y] = *(u64 *)(" less " + 8 + " #o ")\n%[" #c "] -= %[y]\n%[" #c "] -= %[x]\n"
#define PC_RSA_MUL_STARTS(plus, less) \
	PC_RSA_MUL_START(c0, 0, plus, less) PC_RSA_MUL_START(c1, 8, plus, less) \
	PC_RSA_MUL_START(c2, 16, plus, less) PC_RSA_MUL_START(c3, 24, plus, less) \
	"%[y] = *(u64 *)%[carry]\n%[c0] += %[y]\n"
/* c += the limb o of s times d */
#define PC_RSA_BY(c, o, d) "%[y] = *(u64 *)(%[a] + %[cols] + " #o ")\n%[y] *= %[" #d "]\n%[" #c "] += %[y]\n"
/* The columns below R, without the first four rows' corner: that is done singly, with a[2] in c0 and a[3] in c1. */
#define PC_RSA_MUL_LOW \
	"*(u64 *)%[w] = %[a]\n*(u64 *)%[k] = %[a]\n" \
	"%[x] = 0\n*(u64 *)%[carry] = %[x]\n*(u64 *)%[turns] = %[x]\n" \
	"block_%=:\n%[a] = *(u64 *)%[k]\n%[b] = *(u64 *)%[w]\n%[x] = *(u64 *)(%[a] + %[p])\n" \
	PC_RSA_MUL_STARTS("%[b] + %[ps]", "%[a] + %[ps]") \
	"%[b] = %[a]\n%[b] += %[cols] - 56\n%[a] = *(u64 *)%[w]\n%[a] += %[rows]\n" \
	"%[x] = *(u64 *)%[turns]\nif %[x] == 0 goto corner_%=\n" PC_RSA_TILE \
	"corner_%=:\n%[a] = *(u64 *)%[w]\n%[b] = *(u64 *)%[k]\n" \
	"%[u] = *(u64 *)(%[b] + %[rows])\n%[v] = *(u64 *)(%[b] + %[rows] + 8)\n" \
	PC_RSA_BY(c0, 0, u) PC_RSA_PUT(c0, 0) "%[c1] += %[c0]\n" \
	PC_RSA_BY(c1, 8, u) PC_RSA_BY(c1, 0, v) PC_RSA_PUT(c1, 8) "%[c2] += %[c1]\n" \
	"%[c0] = *(u64 *)(%[b] + %[rows] + 16)\n%[c1] = *(u64 *)(%[b] + %[rows] + 24)\n" \
	PC_RSA_BY(c2, 16, u) PC_RSA_BY(c2, 8, v) PC_RSA_BY(c2, 0, c0) PC_RSA_PUT(c2, 16) "%[c3] += %[c2]\n" \
	PC_RSA_BY(c3, 24, u) PC_RSA_BY(c3, 16, v) PC_RSA_BY(c3, 8, c0) PC_RSA_BY(c3, 0, c1) PC_RSA_PUT(c3, 24) \
	"*(u64 *)%[carry] = %[c3]\n%[b] += 32\n*(u64 *)%[k] = %[b]\n" \
	"%[x] = *(u64 *)%[turns]\n%[x] += 1\n*(u64 *)%[turns] = %[x]\nif %[x] != %[blocks] goto block_%=\n" PC_RSA_TILE_ODD
/* The columns from R on; turns counts down. */
#define PC_RSA_MUL_HIGH \
	"%[a] = *(u64 *)%[w]\n*(u64 *)%[k] = %[a]\n" \
	"block_%=:\n%[a] = *(u64 *)%[k]\n%[b] = *(u64 *)%[w]\n" \
	"%[x] = *(u64 *)(%[b] + %[all])\n%[y] = *(u64 *)(%[a] + %[p])\n%[x] -= %[y]\n" \
	PC_RSA_MUL_STARTS("%[a] + %[ps]", "%[b] + %[less]") \
	"%[a] += %[rows]\n%[b] += %[cols] - 56\n%[x] = *(u64 *)%[turns]\n" PC_RSA_TILE \
	"%[b] = *(u64 *)%[k]\n" \
	PC_RSA_PUT(c0, 0) "%[c1] += %[c0]\n" PC_RSA_PUT(c1, 8) "%[c2] += %[c1]\n" \
	PC_RSA_PUT(c2, 16) "%[c3] += %[c2]\n" PC_RSA_PUT(c3, 24) \
	"*(u64 *)%[carry] = %[c3]\n%[b] += 32\n*(u64 *)%[k] = %[b]\n" \
	"%[x] = *(u64 *)%[turns]\n%[x] += -1\n*(u64 *)%[turns] = %[x]\nif %[x] != 0 goto block_%=\n" PC_RSA_TILE_ODD

#endif
