export { isAmong, isLoopback, isNetwork } from "./addresses.ts";
export { isAddressedToUs, isChange, isFromOurPages, refusal } from "./admission.ts";
export { addErrorPages, type ErrorPagesOptions } from "./error-pages.ts";
export { addLogin, type Credentials, isEqual, limitFailures, type LoginOptions } from "./login.ts";
export { addSecurityHeaders, type SecurityHeadersOptions } from "./security-headers.ts";
