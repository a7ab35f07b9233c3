// Money as people write and read it. On the wire it is a whole number of the currency's smallest unit.

/** Those that forms offer; the server knows all of ISO 4217. */
export const CURRENCIES = ["EUR", "GBP", "CHF", "USD", "CAD", "AUD", "JPY", "SEK", "NOK", "DKK", "PLN", "CZK"];

// ISO 4217, as the server has it (veza/db/currencies.py). Browsers only know how many digits are usual: none of a
// forint, which would make a hundred of one.
const WHOLE = new Set("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(" "));
const THOUSANDTHS = new Set("BHD IQD JOD KWD LYD OMR TND".split(" "));

function digits(currency) {
  return WHOLE.has(currency) ? 0 : THOUSANDTHS.has(currency) ? 3 : 2;
}

/** 123450 → "€1,234.50"; nothing → null. */
export function money(cents, currency) {
  if (cents === null || cents === undefined) return null;
  const value = cents / 10 ** digits(currency);
  const shown = Number.isInteger(value) ? 0 : digits(currency);
  const how = { style: "currency", currency, minimumFractionDigits: shown, maximumFractionDigits: shown };
  return new Intl.NumberFormat([], how).format(value);
}

/** "1 234,50" → 123450; an empty text → null. Throws with a sentence where it is no amount. */
export function cents(text, currency = "EUR") {
  const plain = text.replace(/[\s'’]/g, "");
  if (!plain) return null;
  const most = digits(currency);
  const found = /^(\d{1,9})(?:[.,](\d{1,4}))?$/.exec(plain);
  const rest = found?.[2] || "";
  if (!found || rest.length > most) {
    throw new Error(`“${text.trim()}” is no amount; write it as ${most ? `120 or ${(99.5).toFixed(most)}` : "120"}.`);
  }
  return Number(found[1] + rest.padEnd(most, "0"));
}

/** The reverse of `cents`, for fields: 9950 → "99.50". */
export function amount(value, currency = "EUR") {
  if (value === null || value === undefined) return "";
  const whole = value / 10 ** digits(currency);
  return Number.isInteger(whole) ? String(whole) : whole.toFixed(digits(currency));
}
